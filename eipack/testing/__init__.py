"""The conformance kit: subclass `BackendContract`, and pytest runs the contract of a backend."""

from eipack.errors import DependencyMissing

try:
    import pytest
except ImportError as error:
    raise DependencyMissing("the conformance kit needs pytest: pip install pytest") from error

del pytest

from eipack.testing.contract import BackendContract  # noqa: E402 - after the check above
from eipack.testing.zoo import CAPABILITIES  # noqa: E402

__all__ = ["CAPABILITIES", "BackendContract"]
