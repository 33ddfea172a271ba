"""`eipack eia serve`."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eipack.cli.arguments import FILE, TargetType, as_json, example
from eipack.cli.printing import note, size_text
from eipack_eia.endpoint import DEFAULT_PORT, Endpoint
from eipack_eia.sizes import SliceSize, size_of

if TYPE_CHECKING:
    from eipack.target import Target
    from eipack_eia.server.access import Access
    from eipack_eia.server.supervisor import Slice

_GB: Final = 1_000_000_000


@click.command(
    epilog=example(
        "eipack eia serve --on cpu --type eia2.medium",
        "eipack eia serve --on cuda:0 --slices eia2.medium,eia2.medium,eia2.large",
        "eipack eia serve --on cuda:0 --listen 0.0.0.0:8470 --token-file tokens --cert c --key k",
    )
)
@click.option(
    "--on", type=TargetType(), default="cpu", show_default=True, help="The device it lends."
)
@click.option("--type", "type_name", help="The slice's type; eia2.medium if no size is given.")
@click.option("--slices", help="Several types, separated by commas: one accelerator each.")
@click.option("--memory-gb", type=float, help="The memory of a slice of a free size.")
@click.option("--compute-share", type=float, help="The part of the device's computing, up to 1.")
@click.option(
    "--listen",
    default=f"127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; further slices take the ports that follow, port 0 a free one.",
)
@click.option("--store", type=FILE, help="Where packages are kept; by default in the user's cache.")
@click.option("--store-gb", type=float, default=50.0, show_default=True, help="How much of them.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Calls that run at once.",
)
@click.option(
    "--queue", type=click.IntRange(1), default=64, show_default=True, help="Requests that may wait."
)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Run calls of several clients as one of up to so many rows, where that changes nothing.",
)
@click.option(
    "--max-delay-us",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How long a call in the queue may wait for others to join it; needs --max-batch.",
)
@click.option(
    "--connections", type=click.IntRange(1), default=256, show_default=True, help="At most so many."
)
@click.option(
    "--body-gb",
    type=click.FloatRange(0.001),
    default=1.0,
    show_default=True,
    help="The largest request, in GB.",
)
@click.option(
    "--call-timeout-s",
    type=click.FloatRange(0.1),
    default=300.0,
    show_default=True,
    help="A call that runs for longer hangs: the process is started anew.",
)
@click.option(
    "--trust", type=FILE, multiple=True, help="Public keys whose packages it runs (repeatable)."
)
@click.option("--token-file", type=FILE, help="Tokens, one a line: TOKEN [infer|upload].")
@click.option("--no-token", is_flag=True, help="Serve everybody who reaches the port.")
@click.option("--cert", type=FILE, help="The certificate to show, for TLS.")
@click.option("--key", type=FILE, help="Its private key.")
@click.option("--client-ca", type=FILE, help="Whose client certificates are accepted.")
@click.option("--insecure", is_flag=True, help="Serve other hosts without TLS.")
@click.option("--allow-host", multiple=True, help="A name this host is called by (repeatable).")
@as_json
def serve(*, as_json: bool, **given: Any) -> None:
    """Lend a slice of a device to other processes and hosts.

    Runs until it is interrupted. On this host alone it makes a token that your own clients find
    by themselves; for other hosts it wants TLS, and tokens or client certificates.
    """
    from eipack_eia.server.access import remove_local
    from eipack_eia.server.supervisor import supervise

    if given["max_delay_us"] and given["max_batch"] == 1:
        raise click.UsageError("--max-delay-us is for batches; give --max-batch too")
    sizes = _sizes(given)
    try:
        first = Endpoint.parse(given["listen"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--listen") from error
    with ExitStack() as stack:
        slices = []
        for number, size in enumerate(sizes):
            one, endpoint, access = _slice(first, number, size, given)
            stack.callback(one.listening.close)
            if access.token_path is not None and access.tokens is not None:
                stack.callback(remove_local, endpoint, access.tokens)
            stack.callback(one.stop)
            one.start()
            slices.append(one)
            _tell(one, endpoint, as_json=as_json)
        supervise(slices, note)


def _sizes(given: dict[str, Any]) -> list[SliceSize]:
    names = given["slices"].split(",") if given["slices"] else [given["type_name"]]
    try:
        if given["slices"] and given["type_name"]:
            raise click.UsageError("give --type or --slices, not both")
        return [
            size_of(name and name.strip(), given["memory_gb"], given["compute_share"])
            for name in names
        ]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _slice(
    first: Endpoint, number: int, size: SliceSize, given: dict[str, Any]
) -> tuple[Slice, Endpoint, Access]:
    """Listen for a slice and say how its process is to be set up."""
    from attrs import evolve

    from eipack_eia.server.access import Access
    from eipack_eia.server.supervisor import Slice, id_in, listen_at
    from eipack_eia.server.worker import Settings

    on: Target = given["on"]
    listening, endpoint = listen_at(evolve(first, port=first.port + number if first.port else 0))
    if given["cert"]:
        endpoint = evolve(endpoint, scheme="https")
    try:
        names = ("token_file", "no_token", "cert", "key", "client_ca", "insecure")
        chosen: dict[str, Any] = {name: given[name] for name in names}
        access = Access.plan(endpoint, **chosen, allow_hosts=given["allow_host"])
        store = (given["store"] or _cache()) / endpoint.netloc.translate(_PLAIN)
        settings = Settings(
            id=id_in(store),
            on=str(on),
            listen=str(endpoint),
            descriptor=listening.fileno(),
            size=size,
            store=str(store),
            store_bytes=round(given["store_gb"] * _GB),
            workers=given["workers"],
            queue=given["queue"],
            call_timeout_s=given["call_timeout_s"],
            connections=given["connections"],
            body_bytes=round(given["body_gb"] * _GB),
            max_batch=given["max_batch"],
            max_delay_us=given["max_delay_us"],
            trust=tuple(str(path.absolute()) for path in given["trust"]),
            token_file=_text(given["token_file"] or access.token_path),
            no_token=given["no_token"],
            certificate=_text(given["cert"]),
            key=_text(given["key"]),
            client_ca=_text(given["client_ca"]),
            insecure=given["insecure"],
            allow_hosts=tuple(given["allow_host"]),
        )
    except BaseException:
        listening.close()
        raise
    return Slice(settings, listening), endpoint, access


_PLAIN: Final = str.maketrans({":": "_", "[": None, "]": None})


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("eipack", appauthor=False) / "accelerators"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _tell(one: Slice, endpoint: Endpoint, *, as_json: bool) -> None:
    settings, size = one.settings, one.settings.size
    if as_json:
        document = {
            "id": settings.id,
            "type": size.name,
            "on": settings.on,
            "endpoint": str(endpoint),
            "memory_bytes": size.memory_bytes,
            "token_file": settings.token_file,
        }
        click.echo(json.dumps(document))  # a line each, for whoever waits for it
    else:
        memory = size_text(size.memory_bytes)
        click.echo(f"{settings.id}: {size.name} ({memory}) on {settings.on}, at {endpoint}")
        click.echo(f"attach it: eipack eia attach {endpoint}")
    sys.stdout.flush()
