"""A program as OpenVINO's model: converted once, then read from where it is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

from eipack.backend import ProgramReader
from eipack.cache import cached
from eipack_openvino.conversion import converted
from eipack_openvino.errors import reason_of
from eipack_openvino.library import core, openvino

_FORM: Final = 1
_NAME: Final = "model.xml"


def model_of(reader: ProgramReader) -> Any:
    """Return the model of a program, its weights mapped from the cache once it is kept there.

    What is kept depends neither on the processor nor on the precision, the threads or the
    options, which all come in when it is compiled.

    Raises:
        UnsupportedModel: OpenVINO lacks an operator or a dtype of the program.
    """
    if reader.digest is None:
        return converted(reader)
    made: list[Any] = []

    def make(folder: Path) -> None:
        made[:] = made or [converted(reader)]
        _save(made[0], folder / _NAME)

    try:
        folder, kept = cached(_key(reader.digest), make)
    except OSError:  # there is no room for it anywhere
        return made[0] if made else converted(reader)
    library = core()
    made.clear()
    try:
        return library.read_model(folder / _NAME)
    except RuntimeError:  # another process has made room in the cache meanwhile
        return converted(reader)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)  # the weights stay mapped


def _key(digest: str) -> dict[str, Any]:
    import torch

    return {
        "engine": "openvino",
        "form": _FORM,
        "program": digest,
        "openvino": openvino().get_version(),
        "torch": str(torch.__version__),
    }


def _save(model: Any, path: Path) -> None:
    try:
        # by default it would store weights in float16
        openvino().save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {reason_of(error)}") from error
