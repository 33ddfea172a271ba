"""Where a model on the command line comes from.

`torchvision:NAME`, `transformers:NAME`, `package.module:callable`, or a `.pt`/`.pt2` file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from difflib import get_close_matches
from importlib import import_module, metadata
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import frozen

from eipack.errors import (
    DependencyMissing,
    EipackError,
    ModelSourceError,
    UnsupportedModel,
    WeightsUnavailable,
)

if TYPE_CHECKING:
    from torch import nn

_FILES: Final = (".pt", ".pt2", ".pth", ".ts")
_FORMS: Final = (
    "torchvision:resnet18, transformers:openai-gpt, package.module:callable, or a .pt or .pt2 file"
)


@frozen
class Recipe:
    """How to build a model: where from, with which weights and settings.

    `weights` is `none`, `default`, the path of a file, or None where nothing was said.
    """

    kind: str
    name: str
    weights: str | None
    config: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str, weights: str | None, config: Mapping[str, Any]) -> Recipe:
        """Read what a person typed.

        Raises:
            UsageError: It is none of the forms, or an option does not go with it.
        """
        kind, _, name = text.partition(":")
        if kind in ("torchvision", "transformers"):
            if not name:
                raise click.UsageError(f"{text!r} names no model; write for example {kind}:NAME")
            return cls(kind, name, weights, config)
        if Path(text).suffix in _FILES or Path(text).is_file():
            if weights is not None or config:
                raise click.UsageError(f"{text} holds its weights: no --weights, no --config")
            return cls("file", text, None, {})
        if not name or not all(part.isidentifier() for part in f"{kind}.{name}".split(".")):
            raise click.UsageError(f"{text!r} is no model source; write {_FORMS}")
        if weights in ("none", "default"):
            raise click.UsageError(f"--weights {weights}: {text} makes its own; name a file")
        return cls("callable", text, weights, config)

    @property
    def fetches(self) -> bool:
        """Whether building may download weights."""
        return self.kind in ("torchvision", "transformers") and self.weights in (None, "default")

    @property
    def title(self) -> str:
        """A name for the model, and for its package's file."""
        if self.kind == "file":
            return Path(self.name).stem
        return self.name.rstrip("/").replace(":", "/").rpartition("/")[2]


@frozen(eq=False)
class Built:
    """A model in eval mode (or the path of a file), and what belongs to it."""

    model: Any
    tokenizer: Any = None
    labels: list[str] | None = None
    remark: str | None = None


def build(recipe: Recipe) -> Built:
    """Build the model of a recipe, in eval mode; random weights are the same each time.

    Raises:
        ModelSourceError: It names nothing that can be built.
        WeightsUnavailable: Weights cannot be fetched, read, or do not fit.
        DependencyMissing: A library is missing, or two do not fit each other.
    """
    if recipe.kind == "file":
        return Built(Path(recipe.name))
    import torch

    torch.manual_seed(0)
    with explained_imports():
        if recipe.kind == "torchvision":
            built = _torchvision(recipe)
        elif recipe.kind == "transformers":
            from eipack.cli.transformers_source import build_transformers

            built = build_transformers(recipe)
        else:
            built = Built(_call(recipe))
    if not isinstance(built.model, torch.nn.Module):
        raise UnsupportedModel(
            f"{recipe.name} gives {type(built.model).__name__}, and not a torch.nn.Module"
        )
    if recipe.weights not in (None, "none", "default"):
        load_weights(built.model, Path(recipe.weights))
    built.model.eval()
    return built


@contextmanager
def explained_imports() -> Iterator[None]:
    """Explain the errors of libraries that are missing or do not fit each other.

    Raises:
        DependencyMissing: In one line, with the command that mends it.
    """
    try:
        yield
    except EipackError as error:
        _explain_mismatch(error.__cause__)
        raise
    except Exception as error:
        _explain_mismatch(error)
        raise


def _explain_mismatch(error: BaseException | None) -> None:
    chain = error
    while chain is not None:
        if "torchvision::" in str(chain) and "does not exist" in str(chain):
            import torch

            version, vision = str(torch.__version__), _torchvision_version()
            public = version.partition("+")[0]
            raise DependencyMissing(
                f"torchvision {vision} is linked against another build of torch than the {version} "
                f"installed here («{' '.join(str(chain).split())}»); install the build that fits: "
                f'pip install --force-reinstall "torch==={public}" "torchvision==={vision}"'
            ) from error
        chain = chain.__cause__ or chain.__context__


def _torchvision_version() -> str:
    try:
        return metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return "(unknown)"


def _torchvision(recipe: Recipe) -> Built:
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        raise missing("torchvision", "vision") from error
    known = models.list_models()
    if recipe.name not in known:
        near = get_close_matches(recipe.name, known, n=3)
        guess = f"did you mean {' or '.join(near)}?" if near else f"it has {len(known)} others"
        raise ModelSourceError(f"torchvision has no model {recipe.name!r}; {guess}")
    weights = None
    if recipe.weights in (None, "default"):
        weights = models.get_model_weights(recipe.name).DEFAULT
    model = _download(
        recipe,
        lambda: models.get_model(recipe.name, weights=weights, progress=False, **recipe.config),
    )
    labels = weights.meta.get("categories") if weights is not None else None
    return Built(model, labels=list(labels) if labels else None)


def _download(recipe: Recipe, make: Any) -> nn.Module:
    try:
        # torch.hub announces each download on one, and its progress on the other
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            model: nn.Module = make()
    except OSError as error:  # URLError and HTTPError are OSErrors
        raise unavailable(recipe, error) from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelSourceError(
            f"{recipe.kind}:{recipe.name} cannot be built: {one_line(error)}"
        ) from error
    return model


def unavailable(recipe: Recipe, error: BaseException) -> WeightsUnavailable:
    """Say that pretrained weights cannot be fetched, and how to do without."""
    return WeightsUnavailable(
        f"the weights of {recipe.kind}:{recipe.name} cannot be fetched ({one_line(error)}); "
        "build it with random weights by --weights none, or give a file by --weights FILE"
    )


def missing(library: str, extra: str) -> DependencyMissing:
    """Say that a library of models is not installed."""
    return DependencyMissing(f'{library} is not installed; try: pip install "eipack[{extra}]"')


def one_line(error: BaseException) -> str:
    """Return the first line of an error, or what it means where that is known to be long."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if "couldn't connect" in lines[0]:  # transformers, with a paragraph of advice
        return "it is not cached here and the hub cannot be reached"
    return lines[0].strip().rstrip(".")


def _call(recipe: Recipe) -> Any:
    import torch

    module_name, _, path = recipe.name.partition(":")
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = import_module(module_name)
        for part in path.split("."):
            value = getattr(value, part)
        if isinstance(value, torch.nn.Module):  # callable too, but built already
            return value
        torch.manual_seed(0)  # once more: what was imported may have drawn numbers
        with redirect_stdout(sys.stderr):  # what it prints is not the command's own output
            return value(**recipe.config)
    except EipackError:
        raise
    except ModuleNotFoundError as error:
        where = f" in {here}" if error.name == module_name.partition(".")[0] else ""
        raise ModelSourceError(f"{recipe.name}: {one_line(error)}{where}") from error
    except (Exception, SystemExit) as error:
        raise ModelSourceError(
            f"{recipe.name} failed: {type(error).__name__}: {one_line(error)}"
        ) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, `.safetensors` or by torch.save (read without running code), into a model.

    Raises:
        WeightsUnavailable: The file cannot be read, or does not fit.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
            state = state["state_dict"]
        model.load_state_dict(state)
    except FileNotFoundError as error:
        raise WeightsUnavailable(
            f"--weights {path}: there is no such file; write none, default or a file"
        ) from error
    except Exception as error:
        # torch's first line names the class alone
        reason = " ".join(str(error).split())[:200]
        raise WeightsUnavailable(f"{path} does not hold weights of this model: {reason}") from error
