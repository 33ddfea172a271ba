"""Package a PyTorch model once; run it and measure it on any target.

Importing this module imports no torch and looks at no device; each name below is
imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eipack.advisor import Advice, advise
    from eipack.ambient import current_target, use
    from eipack.backend import (
        Backend,
        Device,
        LoadOptions,
        Program,
        ProgramReader,
        ProgramWriter,
        Runner,
    )
    from eipack.capture.exporting import export
    from eipack.compiling import compile
    from eipack.errors import EipackError
    from eipack.loading import load
    from eipack.measuring import Report, benchmark
    from eipack.measuring.changes import Changes, compare
    from eipack.package import Package
    from eipack.package.difference import Difference, diff
    from eipack.parity.draw import InputSpec
    from eipack.registry import backends, devices
    from eipack.session import Session
    from eipack.signature import Dim, Signature, TensorSpec
    from eipack.signing import sign, verify
    from eipack.target import Target
    from eipack.tuning import tune

__version__ = "0.1.0"

_HOMES = {
    "Advice": "advisor",
    "Backend": "backend",
    "Changes": "measuring.changes",
    "Device": "backend",
    "Difference": "package.difference",
    "Dim": "signature",
    "EipackError": "errors",
    "InputSpec": "parity.draw",
    "LoadOptions": "backend",
    "Package": "package",
    "Program": "backend",
    "ProgramReader": "backend",
    "ProgramWriter": "backend",
    "Report": "measuring",
    "Runner": "backend",
    "Session": "session",
    "Signature": "signature",
    "Target": "target",
    "TensorSpec": "signature",
    "advise": "advisor",
    "backends": "registry",
    "benchmark": "measuring",
    "compare": "measuring.changes",
    "compile": "compiling",
    "current_target": "ambient",
    "devices": "registry",
    "diff": "package.difference",
    "export": "capture.exporting",
    "load": "loading",
    "sign": "signing",
    "tune": "tuning",
    "use": "ambient",
    "verify": "signing",
}

__all__ = [
    "Advice",
    "Backend",
    "Changes",
    "Device",
    "Difference",
    "Dim",
    "EipackError",
    "InputSpec",
    "LoadOptions",
    "Package",
    "Program",
    "ProgramReader",
    "ProgramWriter",
    "Report",
    "Runner",
    "Session",
    "Signature",
    "Target",
    "TensorSpec",
    "__version__",
    "advise",
    "backends",
    "benchmark",
    "compare",
    "compile",
    "current_target",
    "devices",
    "diff",
    "export",
    "load",
    "open",
    "sign",
    "tune",
    "use",
    "verify",
]


def open(path: Any) -> Package:
    """Open a package file and read its manifest; no code of the package runs.

    Raises:
        PackageIOError: The file cannot be read.
        MalformedPackage: It is no canonical package.
        FormatVersionError: It is of a later format.
    """
    from eipack.package import Package

    return Package.open(path)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'eipack' has no attribute {name!r}")
    value = getattr(import_module(f"eipack.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
