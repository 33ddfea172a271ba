"""Every model of the zoo: those that each backend must run, and those that a capability adds."""

from __future__ import annotations

from collections.abc import Collection

from eipack.testing.models import ZooModel
from eipack.testing.zoo_core import CORE
from eipack.testing.zoo_optional import OPTIONAL

CAPABILITIES = tuple(sorted({model.needs for model in OPTIONAL if model.needs is not None}))
"""What a backend may declare in `supports`."""

_BY_NAME = {model.name: model for model in (*CORE, *OPTIONAL)}


def zoo_model(name: str) -> ZooModel:
    """Return the model of that name."""
    return _BY_NAME[name]


def supported(supports: Collection[str]) -> list[ZooModel]:
    """List the models that a backend with these capabilities must run."""
    return [*CORE, *(model for model in OPTIONAL if model.needs in supports)]


def unsupported(supports: Collection[str]) -> list[ZooModel]:
    """List the models that it may refuse."""
    return [model for model in OPTIONAL if model.needs not in supports]
