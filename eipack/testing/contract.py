"""The contract of a backend as tests that pytest runs."""

from __future__ import annotations

from typing import Any

from eipack.target import Target
from eipack.testing.check_answers import AnswerChecks
from eipack.testing.check_devices import DeviceChecks
from eipack.testing.check_leaks import LeakChecks
from eipack.testing.check_lifecycle import LifecycleChecks
from eipack.testing.check_packages import PackageChecks
from eipack.testing.check_signature import SignatureChecks
from eipack.testing.check_threads import ThreadChecks
from eipack.testing.zoo import CAPABILITIES


class BackendContract(
    DeviceChecks,
    SignatureChecks,
    AnswerChecks,
    PackageChecks,
    LifecycleChecks,
    ThreadChecks,
    LeakChecks,
):
    """Test a backend: subclass it as `Test…`, and name the `target` and what it `supports`.

    `supports` adds models to those that every backend must run, and switches no check off;
    the capabilities are `eipack.testing.CAPABILITIES`. Checks that need a device are skipped
    where the target has none. With `EIPACK_CONFORMANCE_JSON=FILE` in the environment, what
    was run is written to the file.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse unknown capabilities, and checks that are overridden.

        Raises:
            ValueError: `supports` names something that is no capability.
            TypeError: There is no target, or a check of the kit is redefined.
            TargetSyntaxError: The target cannot be parsed.
        """
        super().__init_subclass__(**kwargs)
        if isinstance(cls.supports, str):
            raise TypeError(f"{cls.__name__}.supports is text; write a set of capabilities")
        unknown = sorted(set(cls.supports) - set(CAPABILITIES))
        if unknown:
            raise ValueError(
                f"{cls.__name__} supports {unknown[0]!r}, which is no capability; "
                f"known: {', '.join(CAPABILITIES)}"
            )
        if not hasattr(cls, "target"):
            raise TypeError(f"{cls.__name__} names no target, as in target = 'cpu'")
        Target.parse(cls.target)
        for name in vars(cls):
            if name.startswith("test_") and hasattr(BackendContract, name):
                raise TypeError(
                    f"{cls.__name__} redefines {name}; the contract is the same for all"
                )
