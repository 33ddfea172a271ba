"""How attached accelerators are: each is asked, all at once, and within a limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Thread
from typing import Any, Final
from urllib.parse import quote

import msgspec
from attrs import evolve, frozen

from eipack.errors import EipackError, ProtocolError
from eipack_eia.attached import Attached, check_id
from eipack_eia.client.control import Control
from eipack_eia.lenders import lender_of

NAME: Final = "eipack-eia"
HEALTHY: Final = "healthy"
PROBE_TIMEOUT_S: Final = 2.0


class Accelerator(msgspec.Struct, frozen=True):
    """What an accelerator says of itself; None is what it does not say."""

    id: str
    type: str
    on: str = ""
    kinds: list[str] | None = None
    status: str = HEALTHY
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    requested: dict[str, Any] | None = None
    enforced: dict[str, Any] | None = None
    models: list[Any] | None = None


class Server(msgspec.Struct, frozen=True):
    """What a server of the protocol says of itself."""

    name: str
    accelerator: Accelerator | None = None


@frozen
class Health:
    """How an accelerator was found; `detail` says what is wrong with an unhealthy one."""

    detail: str = ""
    round_trip_ms: float | None = None
    said: Accelerator | None = None


def probe(accelerators: Sequence[Attached], timeout_s: float = PROBE_TIMEOUT_S) -> list[Health]:
    """Ask accelerators how they are, all at once; this raises nothing and takes `timeout_s`."""
    found: dict[int, Health] = {}

    def probe_one(position: int, one: Attached) -> None:
        found[position] = _probed(one, timeout_s)

    # A slow name server or sender keeps its thread longer, which daemons may be left to.
    threads = [Thread(target=probe_one, args=each, daemon=True) for each in enumerate(accelerators)]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Health(f"no answer within {timeout_s:g} s")
    return [found.get(position, late) for position in range(len(threads))]


def _probed(one: Attached, timeout_s: float) -> Health:
    health = _asked(one, timeout_s)
    moved = _moved(one, timeout_s) if health.detail else None
    return health if moved is None else _asked(moved, timeout_s)


def _moved(one: Attached, timeout_s: float) -> Attached | None:
    """Return a lent accelerator where its lender has it now; None if that is nowhere else."""
    try:
        lender = lender_of(one)
        endpoint = one.endpoint if lender is None else lender.find(one, timeout_s)
    except EipackError:
        return None
    return None if endpoint == one.endpoint else evolve(one, endpoint=endpoint)


def _asked(one: Attached, timeout_s: float) -> Health:
    try:
        control = Control(one.endpoint, one.credentials, timeout_s)
        start = time.perf_counter()
        said = _ask_foreign(control, one) if one.endpoint.foreign else ask(control)
        round_trip_ms = round((time.perf_counter() - start) * 1000, 3)
    except EipackError as error:
        return Health(str(error))
    except Exception as error:  # noqa: BLE001 - the others are described all the same
        return Health(f"{type(error).__name__}: {error}")
    detail = "" if said.status == HEALTHY else f"it says that it is {said.status}"
    if one.has_own_id and said.id != one.id:
        detail = f"another accelerator answers at its address: {said.id}"
    return Health(detail, round_trip_ms, said)


def ask(control: Control) -> Accelerator:
    """Return what an eipack accelerator says of itself.

    Raises:
        ProtocolError: It is none.
        EipackError: It cannot be asked, or refuses.
    """
    found = server(control)
    if found.name != NAME or found.accelerator is None:
        netloc = control.endpoint.netloc
        raise ProtocolError(
            f"the server at {control.endpoint} is {found.name[:80]!r}, not an eipack accelerator; "
            f"attach it as triton+http://{netloc} or oip+http://{netloc}"
        )
    try:
        check_id(found.accelerator.id)
    except ValueError as error:
        raise ProtocolError(f"the accelerator at {control.endpoint} has no {error}") from error
    return found.accelerator


def _ask_foreign(control: Control, one: Attached) -> Accelerator:
    """Ask whether a foreign server's model is ready, or the server is alive if it has none.

    A Triton that was sent a model and has unloaded it again does not call itself ready any more.
    """
    model = one.model
    control.request(
        "GET", "v2/health/live" if model is None else f"v2/models/{quote(model, safe='')}/ready"
    )
    return Accelerator(one.id, one.type, models=None if one.model is None else [one.model])


def server(control: Control) -> Server:
    """Ask a server of the protocol what it is.

    Raises:
        ProtocolError: It does not say so.
        EipackError: It cannot be asked, or refuses.
    """
    try:
        return msgspec.convert(control.json("GET", "v2"), Server)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the server at {control.endpoint} does not describe itself as one of the Open "
            f"Inference Protocol ({error})"
        ) from error
