"""What a caller of `eipack.load` asks for, held to what has a meaning and to what is offered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from eipack.backend import Backend, LoadOptions, Precision
from eipack.errors import OptionRefused
from eipack.registry import names
from eipack.target import Target


def check_options(asked: LoadOptions) -> None:
    """Refuse values that mean nothing for any backend.

    Raises:
        OptionRefused: One does.
    """
    if asked.outputs_on not in ("host", "device"):
        raise OptionRefused(f"outputs_on is {asked.outputs_on!r}; choose 'host' or 'device'")
    if asked.deadline_ms is not None and not 0 < asked.deadline_ms < float("inf"):
        raise OptionRefused(f"deadline_ms is {asked.deadline_ms!r}; give milliseconds above 0")
    if asked.retries < 0:
        raise OptionRefused(
            f"retries is {asked.retries}; give how often a lost call may be sent again"
        )
    if asked.precision not in get_args(Precision):
        raise OptionRefused(
            f"precision is {asked.precision!r}; choose one of {', '.join(get_args(Precision))}"
        )
    if asked.threads is not None and asked.threads < 1:
        raise OptionRefused(f"threads is {asked.threads}; a call has at least one")


def of_engine(target: Target, options: Mapping[str, Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """Return the options for a target's engine; a device's own engine has the device's name.

    Raises:
        OptionRefused: Options are given for an engine that is not installed.
    """
    engines = {name.partition(".")[2] or name for name in names()}
    unknown = sorted(set(options or {}) - engines)
    if unknown:
        raise OptionRefused(
            f"options names the engine {unknown[0]!r}; installed are {', '.join(sorted(engines))}"
        )
    return (options or {}).get(target.engine or target.device, {})


def require_offered(backend: Backend, asked: LoadOptions) -> None:
    """Refuse what a backend would ignore.

    Raises:
        OptionRefused: It does not offer something that is asked for; the message says what it does.
    """
    where = str(Target(backend.device, backend.engine))
    given = ("deadline_ms", "retries", "failover", "threads")
    lacking = sorted({name for name in given if getattr(asked, name)} - backend.options)
    if lacking:
        raise OptionRefused(f"{where} does not offer {', '.join(lacking)}; leave it out")
    if asked.precision not in backend.precisions:
        raise OptionRefused(
            f"{where} does not compute in {asked.precision}; it has {', '.join(backend.precisions)}"
        )
    unknown = sorted(set(asked.engine) - set(backend.engine_options))
    if unknown:
        known = ", ".join(sorted(backend.engine_options)) or "none"
        raise OptionRefused(f"{where} has no option {unknown[0]!r}; its options are {known}")
