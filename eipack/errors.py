"""Every error that eipack raises, in one tree.

EipackError
├── AcceleratorError
│   ├── AcceleratorDenied        PermissionError  token, certificate or right is not accepted
│   ├── AcceleratorFull          MemoryError   the model does not fit into the slice
│   ├── AcceleratorOverloaded    RuntimeError  too much waits there already; nothing was run
│   ├── AcceleratorUnavailable   ConnectionError  it cannot be reached, or was lost
│   ├── DeadlineExceeded         TimeoutError  no answer came in the time that was given
│   └── ProtocolError            ValueError    an answer or request breaks the protocol
├── BackendError
│   ├── BackendNotFound          LookupError   no plugin serves the target's device or engine
│   ├── BackendConflict          RuntimeError  two distributions claim one name
│   ├── BackendBroken            ImportError   a plugin is installed and fails to import
│   ├── DeviceNotFound           LookupError   the device or its ordinal is not there
│   ├── OptionRefused            ValueError    the target does not take an option, or its value
│   ├── TargetSyntaxError        ValueError    the target string cannot be parsed
│   └── ExecutionFailed          RuntimeError  the program failed on its device
├── CaptureError
│   ├── CaptureFailed            RuntimeError  torch could not capture the model
│   ├── DependencyMissing        ImportError   an optional library is not installed
│   ├── ExampleInputsRequired    ValueError    there are no inputs to capture with
│   ├── MethodConflict           ValueError    the method cannot give the kinds asked for
│   ├── ModelInTrainingMode      ValueError    dropout or batch statistics are left on
│   ├── ModelSourceError         ValueError    a model source names nothing that can be loaded
│   ├── NondeterministicModel    ValueError    equal inputs give different outputs
│   ├── StatefulModel            ValueError    a call changes the model
│   ├── TracedBranch             ValueError    a trace depends on a value or a size
│   ├── UnsupportedModel         TypeError     an input, an output or a part cannot be packaged
│   └── WeightsUnavailable       OSError       pretrained weights cannot be fetched
├── MeasuringError
│   ├── PictureRefused           ValueError    no picture or page can be written there
│   ├── PriceNotFound            LookupError   no catalogue has that name, or a price of it
│   ├── ReportRefused            ValueError    a report cannot be read, or used with the others
│   └── TableRefused             ValueError    a table of prices or latencies is wrong
├── ParityError
│   ├── ParityFailed             ValueError    a program disagrees with the model
│   └── ParityInputsRequired     ValueError    no inputs can be drawn that prove anything
├── PackageError
│   ├── DigestMismatch           ValueError    bytes differ from the digest the manifest gives
│   ├── FormatVersionError       ValueError    the file has a format version this eipack cannot read
│   ├── MalformedPackage         ValueError    the file is not a canonical package
│   ├── PackageChanged           OSError       the file changed under a session
│   ├── PackageIOError           OSError       the file cannot be read or written
│   └── ProgramNotFound          LookupError   the package holds no program of that kind
├── SessionError
│   ├── SessionClosed            RuntimeError  the session is closed
│   ├── SessionForked            RuntimeError  the session belongs to the parent process
│   └── SignatureMismatch        TypeError, ValueError  a call does not fit the signature
└── TrustError
    ├── KeyNotFound              LookupError   no trusted key, or more than one, has that name
    ├── KeyUnavailable           OSError       a key file is missing or unusable
    ├── SigningInvalid           ValueError    the signing does not match the package
    ├── TrustStoreDamaged        ValueError    the list of trusted keys cannot be read
    └── UntrustedPackage         PermissionError  nobody trusted has signed the package

Each class inherits the nearest builtin too, so that code which knows nothing of
eipack can still catch it. Data that a program might want lies in attributes.
"""

from __future__ import annotations

from typing import Any


class EipackError(Exception):
    """Base of all errors; keyword arguments become attributes."""

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data
        for name, value in data.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.data)


def _rebuild(cls: type[EipackError], message: str, data: dict[str, Any]) -> EipackError:
    return cls(message, **data)


class AcceleratorError(EipackError):
    """An accelerator in another process or machine is the trouble, or the way to it."""


class AcceleratorDenied(AcceleratorError, PermissionError):
    """The accelerator does not accept the token, the certificate, or what they may do."""


class AcceleratorFull(AcceleratorError, MemoryError):
    """A model does not fit into the memory of the accelerator's slice."""


class AcceleratorOverloaded(AcceleratorError, RuntimeError):
    """Too many requests wait at the accelerator already; this one was not run."""


class AcceleratorUnavailable(AcceleratorError, ConnectionError):
    """The accelerator cannot be reached, or the connection to it was lost."""


class DeadlineExceeded(AcceleratorError, TimeoutError):
    """No answer came within the deadline of the call."""


class ProtocolError(AcceleratorError, ValueError):
    """A request or an answer breaks the Open Inference Protocol."""


class BackendError(EipackError):
    """A backend, its plugin or its device is the trouble."""


class BackendNotFound(BackendError, LookupError):
    """No installed plugin serves the target's device or engine."""


class BackendConflict(BackendError, RuntimeError):
    """Two distributions claim one backend name."""


class BackendBroken(BackendError, ImportError):
    """A plugin is installed and cannot be imported."""


class DeviceNotFound(BackendError, LookupError):
    """The device, or the ordinal of it, is not on this machine."""


class OptionRefused(BackendError, ValueError):
    """A target does not take an option of `load`, or not with this value."""


class TargetSyntaxError(BackendError, ValueError):
    """A target string does not read `device[+engine][:ordinal]`."""


class ExecutionFailed(BackendError, RuntimeError):
    """A program failed while it ran on its device."""


class CaptureError(EipackError):
    """A model could not become a program."""


class CaptureFailed(CaptureError, RuntimeError):
    """Torch could not capture the model by the method asked for."""


class DependencyMissing(CaptureError, ImportError):
    """An optional library that this step needs is not installed."""


class ExampleInputsRequired(CaptureError, ValueError):
    """No example inputs were given and none can be derived."""


class MethodConflict(CaptureError, ValueError):
    """The capture method cannot give the program kinds asked for."""


class ModelInTrainingMode(CaptureError, ValueError):
    """Dropout or batch statistics are left on."""


class ModelSourceError(CaptureError, ValueError):
    """A model source names nothing that can be loaded."""


class NondeterministicModel(CaptureError, ValueError):
    """Equal inputs give different outputs."""


class StatefulModel(CaptureError, ValueError):
    """A call changes the model's own tensors or what it answers next."""


class TracedBranch(CaptureError, ValueError):
    """A trace would hard-wire a value or a size of the example inputs."""


class UnsupportedModel(CaptureError, TypeError):
    """An input, an output or a part of the model cannot be packaged."""


class WeightsUnavailable(CaptureError, OSError):
    """Pretrained weights cannot be fetched or read."""


class MeasuringError(EipackError):
    """Figures that were measured, their prices or their pictures are the trouble."""


class PictureRefused(MeasuringError, ValueError):
    """No picture or page can be written under that name."""


class PriceNotFound(MeasuringError, LookupError):
    """No catalogue has that name, or a price of what was measured."""


class ReportRefused(MeasuringError, ValueError):
    """A report cannot be read, or not be used together with the others."""


class TableRefused(MeasuringError, ValueError):
    """A table of prices or latencies has something wrong in it."""


class ParityError(EipackError):
    """Agreement between program and model could not be shown."""


class ParityFailed(ParityError, ValueError):
    """A program disagrees with the model it was captured from."""


class ParityInputsRequired(ParityError, ValueError):
    """No inputs can be drawn safely that would prove anything."""


class PackageError(EipackError):
    """A package file is the trouble."""


class DigestMismatch(PackageError, ValueError):
    """Bytes of a package differ from the digest in its manifest."""


class FormatVersionError(PackageError, ValueError):
    """The package has a format version that this eipack cannot read."""


class MalformedPackage(PackageError, ValueError):
    """The file is not a canonical package."""


class PackageChanged(PackageError, OSError):
    """The file of an open package was changed in place."""


class PackageIOError(PackageError, OSError):
    """A package file cannot be read or written."""


class ProgramNotFound(PackageError, LookupError):
    """The package holds no program of the kind asked for."""


class SessionError(EipackError):
    """A session cannot serve the call."""


class SessionClosed(SessionError, RuntimeError):
    """The session is closed."""


class SessionForked(SessionError, RuntimeError):
    """The session was opened by the parent of this process."""


class SignatureMismatch(SessionError, TypeError, ValueError):
    """A call does not fit the signature of the package."""


class TrustError(EipackError):
    """A package, or a key, is not trusted."""


class KeyNotFound(TrustError, LookupError):
    """No trusted key has that name, or more than one has."""


class KeyUnavailable(TrustError, OSError):
    """A key file is missing or unusable."""


class SigningInvalid(TrustError, ValueError):
    """The signing in a package does not match its manifest."""


class TrustStoreDamaged(TrustError, ValueError):
    """The list of trusted keys cannot be read."""


class UntrustedPackage(TrustError, PermissionError):
    """No trusted key has signed the package."""
