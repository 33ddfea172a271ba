"""Models of transformers, from the hub, a local folder, or an architecture's own defaults."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from eipack.cli.sources import Built, Recipe, missing, one_line, unavailable
from eipack.errors import ModelSourceError

_ROBERTA: Final = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
_LARGE: Final = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# Checkpoints that can be built without a download: their type, and what differs from its defaults.
_KNOWN: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "openai-gpt": ("openai-gpt", {}),
    "gpt2": ("gpt2", {}),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "bert-base-uncased": ("bert", {}),
    "bert-base-cased": ("bert", {"vocab_size": 28996}),
    "bert-large-uncased": ("bert", _LARGE),
    "distilbert-base-uncased": ("distilbert", {}),
    "roberta-base": ("roberta", _ROBERTA),
    "vit-base-patch16-224": ("vit", {}),
}
# Heads that are what a checkpoint was trained for; language models are packaged without theirs.
_TASKS: Final = ("Classification", "QuestionAnswering", "MultipleChoice")


def build_transformers(recipe: Recipe) -> Built:
    """Build a model, with its tokenizer where that can be had.

    Raises:
        ModelSourceError: The name is unknown here.
        WeightsUnavailable: The weights cannot be fetched.
        DependencyMissing: transformers is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing("transformers", "text") from error
    _quieten(transformers)
    local = Path(recipe.name).is_dir()
    pretrained = recipe.weights in (None, "default")
    config = _config(transformers, recipe, fetch=pretrained and not local)
    _adjust(config, recipe.config)
    try:
        kind = _class(transformers, config)
        if pretrained:
            model = kind.from_pretrained(recipe.name, config=config, local_files_only=local)
        else:
            model = _random(kind, config)
    except OSError as error:
        raise unavailable(recipe, error) from error
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise ModelSourceError(f"{recipe.name} cannot be built: {one_line(error)}") from error
    tokenizer, remark = _tokenizer(transformers, recipe, config, fetch=pretrained and not local)
    return Built(model, tokenizer, _labels(config), remark)


def _adjust(config: Any, settings: Mapping[str, Any]) -> None:
    if getattr(config, "use_cache", False):
        config.use_cache = False  # a cache is state, which no package has
    for key, value in settings.items():
        if not hasattr(config, key):
            raise ModelSourceError(f"--config {key}: {type(config).__name__} has no such setting")
        setattr(config, key, value)


def _quieten(transformers: Any) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry


def _config(transformers: Any, recipe: Recipe, *, fetch: bool) -> Any:
    """Read the configuration, or make that of a known id where nothing shall be fetched."""
    auto = transformers.AutoConfig
    if not fetch and not Path(recipe.name).is_dir():
        kind, settings = _KNOWN.get(recipe.name.rpartition("/")[2], (recipe.name, {}))
        if kind in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
            return auto.for_model(kind, **settings)
    try:
        return auto.from_pretrained(recipe.name, local_files_only=not fetch)
    except (OSError, ValueError) as error:
        if fetch:
            raise unavailable(recipe, error) from error
        raise ModelSourceError(
            f"there is no configuration of {recipe.name!r} on this machine; --weights none takes a "
            f"local folder, a model type of transformers, or {', '.join(_KNOWN)}"
        ) from error


def _class(transformers: Any, config: Any) -> Any:
    for name in getattr(config, "architectures", None) or ():
        if name.endswith(_TASKS) and hasattr(transformers, name):
            return getattr(transformers, name)
    return transformers.AutoModel


def _random(kind: Any, config: Any) -> Any:
    return kind.from_config(config) if hasattr(kind, "from_config") else kind(config)


def _labels(config: Any) -> list[str] | None:
    named = getattr(config, "id2label", None) or {}
    if any(not str(label).startswith("LABEL_") for label in named.values()):
        return [str(named[index]) for index in sorted(named)]
    return None


def _tokenizer(
    transformers: Any, recipe: Recipe, config: Any, *, fetch: bool
) -> tuple[Any, str | None]:
    """Return the tokenizer, or why there is none; models without a vocabulary need none."""
    if not hasattr(config, "vocab_size"):
        return None, None
    try:
        found = transformers.AutoTokenizer.from_pretrained(recipe.name, local_files_only=not fetch)
    except Exception as error:  # noqa: BLE001 - whatever it is, the model is packaged without it
        return None, f"the tokenizer of {recipe.name} cannot be had here ({one_line(error)})"
    return found, None
