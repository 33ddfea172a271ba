"""The options of ONNX Runtime that a caller may set, held to values that have a meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from eipack.errors import OptionRefused
from eipack.threads import usable_cores

LEVELS: Final = ("disable", "basic", "extended", "all")
MODES: Final = ("sequential", "parallel")
SPINNING: Final = ("run", "always", "never")


@frozen
class Option:
    """One option: what it is for, its default, and how a value is read."""

    description: str
    default: Any
    read: Callable[[Any], Any]
    allowed: str


def _choice(description: str, names: tuple[str, ...], default: str) -> Option:
    def read(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Option(f"{description}: {', '.join(names)}", default, read, f"one of {', '.join(names)}")


def _switch(description: str, *, default: bool) -> Option:
    def read(value: Any) -> bool:
        return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]

    return Option(f"{description}: true or false", default, read, "true or false")


def _count(description: str, default: int) -> Option:
    def read(value: Any) -> int:
        number = int(str(value))
        if number < 1:
            raise ValueError
        return number

    return Option(f"{description}: a whole number from 1", default, read, "a whole number from 1")


OPTIONS: Final[Mapping[str, Option]] = {
    "graph_optimization_level": _choice("how far the graph is optimised", LEVELS, "all"),
    "execution_mode": _choice("whether branches of the graph run side by side", MODES, MODES[0]),
    "inter_op_num_threads": _count("threads for branches that run side by side", 1),
    "spinning": _choice("when threads without work keep their core", SPINNING, "run"),
    "enable_cpu_mem_arena": _switch("keep memory for the next call", default=True),
    "enable_mem_pattern": _switch("plan the memory of a call ahead", default=True),
    "prepacking": _switch("hold weights a second time, in a quicker layout", default=True),
}


@frozen
class Settings:
    """Every option with its value, and the threads of one operator."""

    values: Mapping[str, Any]
    threads: int

    @property
    def pool(self) -> int:
        """Return how many threads a call may keep busy."""
        parallel = self.values["execution_mode"] == "parallel"
        return self.threads + (self.values["inter_op_num_threads"] - 1 if parallel else 0)

    @property
    def shaping(self) -> dict[str, Any]:
        """Return the values that decide what is compiled."""
        return {name: self.values[name] for name in ("graph_optimization_level", "prepacking")}


def parse(engine: Mapping[str, Any], threads: int | None) -> Settings:
    """Read what a caller gave for the engine; the rest has its default.

    Raises:
        OptionRefused: A value is none that the option can have; the message says which can.
    """
    given = {name: _read(name, value) for name, value in engine.items()}
    defaults = {name: option.default for name, option in OPTIONS.items()}
    return Settings({**defaults, **given}, threads or usable_cores())


def _read(name: str, value: Any) -> Any:
    option = OPTIONS[name]
    try:
        return option.read(value)
    except (KeyError, TypeError, ValueError) as error:
        raise OptionRefused(f"{name} is {value!r}; give {option.allowed}") from error
