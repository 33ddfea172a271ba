"""`eipack eia attach`, `detach`, `reorder` and `describe-accelerators`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from eipack.cli.arguments import FILE, as_json, example
from eipack.cli.printing import note, plural, print_json, print_table, size_text
from eipack.errors import AcceleratorUnavailable, EipackError
from eipack_eia import attached as store
from eipack_eia.attached import VISIBLE, Attached, Files
from eipack_eia.cli_pooled import check_options, give_back, taken
from eipack_eia.client.control import Control
from eipack_eia.client.foreign_model import capabilities, is_ready
from eipack_eia.endpoint import Endpoint
from eipack_eia.health import HEALTHY, NAME, Accelerator, Health, ask, probe
from eipack_eia.lenders import scheme_of

_ATTACH_TIMEOUT_S: Final = 10.0


@click.command(
    epilog=example(
        "eipack eia attach 127.0.0.1:8470",
        "eipack eia attach gpu-7:8470 --token-file gpu-7.token --ca gpu-7.pem",
        "eipack eia attach triton+http://127.0.0.1:8000 --model resnet18",
        "eipack eia attach ray://POOL --type eia2.medium",
    )
)
@click.argument("address", metavar="HOST:PORT|ray://POOL")
@click.option(
    "--token-file", type=FILE, help="Holds the token; that of one on this host is found by itself."
)
@click.option("--ca", type=FILE, help="The certificates that may have signed the accelerator's.")
@click.option("--cert", type=FILE, help="This client's own certificate.")
@click.option("--key", type=FILE, help="The key of --cert.")
@click.option("--id", "wanted", metavar="ID", help="The id it must have, or a foreign server gets.")
@click.option("--model", metavar="NAME", help="The model that a foreign server shall run.")
@click.option("--type", "type_name", help="The type to take from a pool; any if it is not given.")
@click.option("--shared", is_flag=True, help="Share a pool's accelerator with others who do.")
@click.option(
    "--address",
    "lender_at",
    metavar="auto|HOST:PORT",
    help="Where a pool's registry or Ray cluster is; by default the cluster of this host.",
)
@click.option(
    "--wait-s", type=click.FloatRange(0), help="How long to wait for one of a pool to be free."
)
@as_json
def attach(
    *,
    address: str,
    token_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    wanted: str | None,
    model: str | None,
    as_json: bool,
    **pooled: Any,
) -> None:
    """Attach an accelerator under the lowest free ordinal.

    It must answer. One that is attached already keeps its ordinal and gets the new address.
    With a CA or a certificate, HOST:PORT means https://HOST:PORT. Servers that are not eipack's
    are oip+http://HOST:PORT and triton+http://HOST:PORT; ray://POOL takes a free one of a pool.
    """
    files = Files(token_file, ca, cert, key)
    scheme = scheme_of(address)
    check_options(pooled if scheme is None else {"id": wanted, "model": model}, scheme)
    if scheme is not None:
        _tell(taken(scheme, address, files, pooled), "attached", as_json=as_json)
        return
    with _wrong_use("HOST:PORT"):
        endpoint = store.endpoint_for(address, files)
    with _wrong_use("--id"):
        store.check_id(wanted or store.made_id(endpoint))
    if model is not None and not endpoint.foreign:
        raise click.BadParameter(
            "an eipack accelerator runs any model; this is for foreign servers",
            param_hint="--model",
        )
    accelerator_id, type_name = _identified(endpoint, files, wanted, model)
    new = store.attach(
        endpoint, files, accelerator_id=accelerator_id, type_name=type_name, model=model
    )
    _tell(new, "attached", as_json=as_json)
    _note_replaced(new)


@click.command(epilog=example("eipack eia detach 1"))
@click.argument("name", metavar="ORDINAL|ID")
@as_json
def detach(*, name: str, as_json: bool) -> None:
    """Detach an accelerator; the others keep their ordinals.

    One of a pool is given back.
    """
    gone = store.detach(name)
    give_back(gone)
    _tell(gone, "detached", as_json=as_json)


@click.command(epilog=example("eipack eia reorder 2 0 1"))
@click.argument("names", metavar="ORDINAL|ID...", nargs=-1, required=True)
@as_json
def reorder(*, names: tuple[str, ...], as_json: bool) -> None:
    """Renumber the accelerators, from 0 in the order given; name each of them."""
    with _wrong_use("ORDINAL|ID"):
        found = store.reorder(names)
    if as_json:
        print_json([_record(one) for one in found])
        return
    print_table(
        ("target", "id", "type", "endpoint"),
        [(f"eia:{one.ordinal}", one.id, one.type, str(one.endpoint)) for one in found],
    )


@click.command(
    "describe-accelerators",
    epilog=example("eipack eia describe-accelerators", "eipack eia describe-accelerators --json"),
)
@as_json
def describe_accelerators(*, as_json: bool) -> None:
    """Ask the attached accelerators how they are.

    With EI_VISIBLE_DEVICES set, those that it leaves, numbered anew. The round trip is that of a
    request with a connection of its own.
    """
    found = store.visible()
    description = describe(found)
    if as_json:
        print_json(description)
    elif found:
        print_table(
            ("target", "id", "type", "endpoint", "memory free", "of", "round trip", "state"),
            [_row(device) for device in description["devices"]],
            right=("memory free", "of", "round trip"),
        )
    else:
        click.echo("no accelerator is attached here; attach one: eipack eia attach HOST:PORT")
    if VISIBLE in os.environ:
        note(f"{VISIBLE} leaves {plural(len(found), 'accelerator')} of {len(store.attached())}")


@contextmanager
def _wrong_use(parameter: str) -> Iterator[None]:
    """Let a ValueError, unless it is one of eipack's, be the fault of a parameter."""
    try:
        yield
    except EipackError:
        raise
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=parameter) from error


def describe(accelerators: Sequence[Attached]) -> dict[str, Any]:
    """Probe accelerators and describe them as the tool of Elastic Inference did, and further."""
    from importlib.metadata import version

    healths = probe(accelerators)
    return {
        "ei_client_version": version(NAME),
        "time": time.asctime(time.gmtime()),
        "attached_accelerators": len(accelerators),
        "devices": [_device(one, how) for one, how in zip(accelerators, healths, strict=True)],
    }


def _identified(
    endpoint: Endpoint, files: Files, wanted: str | None, model: str | None
) -> tuple[str, str]:
    """Ask for the id and the type under which to record an accelerator."""
    control = Control(endpoint, files.credentials(endpoint), _ATTACH_TIMEOUT_S)
    if endpoint.foreign:
        return wanted or store.made_id(endpoint, model), _type_of(control, model)
    said = ask(control)
    if wanted not in (None, said.id):
        raise AcceleratorUnavailable(f"the accelerator at {endpoint} is {said.id}, not {wanted}")
    return said.id, said.type


def _type_of(control: Control, model: str | None) -> str:
    """Ask a foreign server what it can do, and whether it has the model."""
    found = capabilities(control)
    if model is not None and not is_ready(control, model):
        raise AcceleratorUnavailable(
            f"the server at {control.endpoint} ({found}) has no model {model!r} ready; load it "
            "there, or name one that it has"
        )
    note(str(found))
    if model is None and not found.repository:
        note("to run a package there, attach it again with --model and a model that it has")
    return found.name


def _note_replaced(new: Attached) -> None:
    for one in store.attached():
        if (one.endpoint, one.model) == (new.endpoint, new.model) and one.id != new.id:
            note(f"{one} had this address before; if it is gone: eipack eia detach {one.ordinal}")


def _tell(one: Attached, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_record(one))
    else:
        click.echo(f"{what} eia:{one.ordinal}: {one.id}, {one.type}, at {one.endpoint}")


def _record(one: Attached) -> dict[str, Any]:
    token_file = one.files.token_file
    return {
        "ordinal": one.ordinal,
        "id": one.id,
        "type": one.type,
        "kind": one.kind,
        "endpoint": str(one.endpoint),
        "model": one.model,
        "token_file": None if token_file is None else str(token_file),
    }


def _device(one: Attached, health: Health) -> dict[str, Any]:
    said = health.said or Accelerator(one.id, one.type)
    return {
        "ordinal": one.ordinal,
        "type": said.type,
        "id": one.id,
        "status": "unhealthy" if health.detail else HEALTHY,
        "endpoint": str(one.endpoint),
        "round_trip_ms": health.round_trip_ms,
        "memory_total_bytes": said.memory_bytes,
        "memory_free_bytes": said.memory_free_bytes,
        "requested": said.requested,
        "enforced": said.enforced,
        "models": said.models,
        "detail": health.detail,
    }


def _row(device: Mapping[str, Any]) -> tuple[str, ...]:
    total, free = (device[f"memory_{what}_bytes"] for what in ("total", "free"))
    round_trip_ms = device["round_trip_ms"]
    state = device["status"] + (f": {device['detail']}" if device["detail"] else "")
    return (
        f"eia:{device['ordinal']}",
        device["id"],
        device["type"],
        device["endpoint"],
        "" if free is None else size_text(free),
        "" if total is None else size_text(total),
        "" if round_trip_ms is None else f"{round_trip_ms:.2f} ms",
        state,
    )
