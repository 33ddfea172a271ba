"""Inputs on the command line: a file of tensors, a shape to fill, or text for a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import frozen

from eipack.cli.arguments import ParamType
from eipack.errors import EipackError, ExampleInputsRequired, PackageIOError, SignatureMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.signature import Signature

_SHAPE: Final = re.compile(r"(?:([A-Za-z_][\w.]*)=)?(\d+(?:x\d+)*)(?::([a-z]\w*))?")
_FILES: Final = (".npz", ".safetensors")


@frozen
class FileInput:
    """Tensors by name, in a `.npz` or `.safetensors` file."""

    path: Path


@frozen
class ShapeInput:
    """A tensor to be drawn at random; without a name it is the next argument."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str | None


@frozen
class TextInput:
    """Words for the model's tokenizer."""

    text: str


Given = FileInput | ShapeInput | TextInput


class InputType(ParamType):
    """`FILE`, `[NAME=]1x3x224x224[:DTYPE]` or text, told apart in this order."""

    name = "FILE|SHAPE|TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text."""
        if Path(value).suffix in _FILES:
            return FileInput(Path(value))
        match = _SHAPE.fullmatch(value)
        # A bare number may well be a text; a shape of one axis says its name or its dtype.
        if match is not None and any(mark in value for mark in "=x:"):
            name, sizes, dtype = match.groups()
            return ShapeInput(name, tuple(map(int, sizes.split("x"))), dtype)
        if Path(value).is_file():
            self.fail(f"{value}: only .npz and .safetensors files hold inputs", param, ctx)
        return TextInput(value)


def check_together(given: Sequence[Given]) -> None:
    """Refuse mixtures: several inputs can only be given as shapes.

    Raises:
        UsageError: A file or a text is not alone.
    """
    if len(given) > 1 and not all(isinstance(one, ShapeInput) for one in given):
        raise click.UsageError("--input: a file or a text stands alone; only shapes can be several")


def example_inputs(
    given: Sequence[Given], tokenizer: Any, specs: Mapping[str, Any], accepted: set[str] | None
) -> Any:
    """Return what `eipack.export` takes as inputs; None leaves them to the model.

    `accepted` are the model's parameters, where it says so: a tokenizer may give more.

    Raises:
        ExampleInputsRequired: A text was given and there is no tokenizer.
        PackageIOError: The file cannot be read.
    """
    if not given:
        return None
    first = given[0]
    if isinstance(first, FileInput):
        tensors = read_tensors(first.path)
        return tuple(tensors.values()) if _unnamed(tensors) else tensors
    if isinstance(first, TextInput):
        tensors = tokenize(tokenizer, first.text)
        return {n: t for n, t in tensors.items() if accepted is None or n in accepted}
    shapes = [one for one in given if isinstance(one, ShapeInput)]
    drawn = [draw(one, one.dtype or "float32", specs.get(one.name or "")) for one in shapes]
    named = {one.name: tensor for one, tensor in zip(shapes, drawn, strict=True) if one.name}
    if named and len(named) != len(shapes):
        raise click.UsageError("--input: give every shape another name, or none of them")
    return named or tuple(drawn)


def call_inputs(
    given: Sequence[Given], signature: Signature, tokenizer: Any
) -> list[Tensor] | None:
    """Return tensors in signature order; None stands for the package's own samples.

    Raises:
        SignatureMismatch: An input is missing, or unknown.
    """
    if not given:
        return None
    first = given[0]
    if isinstance(first, TextInput):
        tensors: Mapping[str, Tensor] = tokenize(tokenizer, first.text)
        wanted = {spec.name for spec in signature.inputs}
        return _ordered({n: t for n, t in tensors.items() if n in wanted}, signature, "the text")
    if isinstance(first, FileInput):
        return _ordered(read_tensors(first.path), signature, str(first.path))
    tensors = {}
    names = [spec.name for spec in signature.inputs]
    dtypes = {spec.name: spec.dtype for spec in signature.inputs}
    for index, one in enumerate(one for one in given if isinstance(one, ShapeInput)):
        name = one.name or (names[index] if index < len(names) else f"input {index + 1}")
        tensors[name] = draw(one, one.dtype or dtypes.get(name, "float32"), None)
    return _ordered(tensors, signature, "--input")


def _ordered(tensors: Mapping[str, Tensor], signature: Signature, where: str) -> list[Tensor]:
    names = [spec.name for spec in signature.inputs]
    if _unnamed(tensors):
        named = zip([*names, *tensors], tensors.values(), strict=False)
        tensors = dict(named)
    takes = f"the package takes {', '.join(map(str, signature.inputs))}"
    unknown = [name for name in tensors if name not in names]
    if unknown:
        raise SignatureMismatch(f"{where} has the unknown input {unknown[0]!r}; {takes}")
    absent = [name for name in names if name not in tensors]
    if absent:
        raise SignatureMismatch(f"{where} lacks the input {absent[0]!r}; {takes}")
    return [tensors[name] for name in names]


def _unnamed(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether numpy.savez named the arrays, which were given to it by position."""
    return all(re.fullmatch(r"arr_\d+", name) for name in tensors)


def draw(given: ShapeInput, dtype_name: str, spec: Mapping[str, Any] | None) -> Tensor:
    """Fill a shape: within a spec, else normal numbers, or 0 and 1, which index any table."""
    import torch

    from eipack.dtypes import torch_dtype

    try:
        dtype = torch_dtype(dtype_name)
    except EipackError as error:
        raise click.UsageError(f"--input {given.name or ''}: {error}") from error
    generator = torch.Generator().manual_seed(0)
    if spec is not None and "values" in spec:
        table = torch.tensor(spec["values"], dtype=torch.float64)
        index = torch.randint(0, len(table), given.shape, generator=generator)
        return table.take(index).to(dtype)
    if dtype.is_floating_point or dtype.is_complex:
        if spec is not None:
            unit = torch.rand(given.shape, generator=generator)
            return unit.mul(spec["high"] - spec["low"]).add(spec["low"]).to(dtype)
        return torch.randn(given.shape, generator=generator).to(dtype)
    low, high = (int(spec["low"]), int(spec["high"])) if spec is not None else (0, 1)
    return torch.randint(low, high + 1, given.shape, generator=generator).to(dtype)


def tokenize(tokenizer: Any, text: str) -> dict[str, Tensor]:
    """Encode one text.

    Raises:
        ExampleInputsRequired: There is no tokenizer, or it cannot encode the text.
    """
    if tokenizer is None:
        raise ExampleInputsRequired(
            f"--input {text!r} is read as text, and there is no tokenizer; give a .npz or "
            ".safetensors file, or a shape such as x=1x3x224x224:float32"
        )
    try:
        return dict(tokenizer(text, return_tensors="pt"))
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ExampleInputsRequired(f"the tokenizer cannot encode {text!r}: {said}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name; no pickle is read.

    Raises:
        PackageIOError: The file is missing, or holds something else.
    """
    import numpy as np
    import torch

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
        else:
            from safetensors.torch import load_file

            found = load_file(path)
    except FileNotFoundError as error:
        raise PackageIOError(f"there is no file {path}", path=str(path)) from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise PackageIOError(f"{path} cannot be read as tensors: {said}", path=str(path)) from error
    if not found:
        raise PackageIOError(f"{path} holds no tensor", path=str(path))
    return found


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name to a `.npz` or `.safetensors` file.

    Raises:
        PackageIOError: The file cannot be written, or cannot hold a dtype.
    """
    from eipack.package.beside import write_beside

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_beside(path, lambda place: _write_tensors(plain, place))


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    import numpy as np

    if path.suffix == ".npz":
        try:
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        except TypeError as error:
            raise PackageIOError(
                f"{path.name} cannot hold these outputs, since numpy lacks a dtype of theirs "
                f"({error}); write a .safetensors file",
            ) from error
        np.savez(path, **arrays)
    else:
        from safetensors.torch import save_file

        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
