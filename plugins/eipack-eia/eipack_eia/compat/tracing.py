"""Tracing inside the context: on the client, and again where a mapping is refused at first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

import click

from eipack_eia.compat.context import inside, on_client

_REFUSED: Final = "Encountering a dict at the output of the tracer"
_SAID: Final = (
    "eipack: tracing refuses the mapping that the model returns; traced again with strict=False: "
    "the traced module returns a dict"
)


def tolerant(trace: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `torch.jit.trace` or `trace_module`; outside the context they do as before."""
    parameters = inspect.signature(trace)

    @functools.wraps(trace)
    def traced(*args: Any, **kwargs: Any) -> Any:
        if not inside():
            return trace(*args, **kwargs)
        with on_client():  # the tracer calls the module it made, to check it
            try:
                return trace(*args, **kwargs)
            except RuntimeError as error:
                given = parameters.bind(*args, **kwargs)
                if _REFUSED not in str(error) or not given.arguments.get("strict", True):
                    raise
            given.arguments["strict"] = False
            result = trace(*given.args, **given.kwargs)
        click.echo(_SAID, err=True)
        return result

    return traced
