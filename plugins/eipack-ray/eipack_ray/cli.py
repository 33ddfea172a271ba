"""`eipack eia pool`: accelerators that a Ray cluster places, restarts and accounts for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from eipack_eia.sizes import DEFAULT_TYPE, GB, size_of

from eipack.cli.arguments import FILE, TargetType, as_json, example
from eipack.cli.printing import note, plural, print_json, print_table
from eipack.errors import AcceleratorUnavailable, OptionRefused
from eipack_ray.settings import LEASE_S, Guard, Offer, PoolSettings

if TYPE_CHECKING:
    from eipack.target import Target
    from eipack_ray.claim import Claim
    from eipack_ray.cluster import Cluster

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")

_address = click.option(
    "--address",
    default="auto",
    show_default=True,
    metavar="auto|local|HOST:PORT",
    help="The Ray cluster: that of this host, one of one node on this host, or that there.",
)


@click.group(
    epilog=example(
        "eipack eia pool up --address local --name trial --count 2",
        "eipack eia attach ray://trial",
        "eipack eia pool down trial",
    )
)
def pool() -> None:
    """Let a Ray cluster place accelerators, restart them, and lend them to clients."""


@pool.command(
    epilog=example(
        "eipack eia pool up --address local --name trial --type eia2.medium --count 2",
        "eipack eia pool up --name gpus --type eia2.large --count 40 --on cuda "
        "--token-file /etc/eipack/token --cert /etc/eipack/cert.pem --key /etc/eipack/key.pem",
    )
)
@_address
@click.option("--name", required=True, help="The pool's name, as in ray://NAME.")
@click.option("--type", "type_name", default=DEFAULT_TYPE, show_default=True, help="Their type.")
@click.option(
    "--count", type=click.IntRange(0), default=1, show_default=True, help="How many of the type."
)
@click.option(
    "--on", type=TargetType(), help="What they lend; by default cuda if the cluster has GPUs."
)
@click.option("--shared", is_flag=True, help="Lend each to several clients at once.")
@click.option(
    "--lease-s",
    type=click.FloatRange(1),
    default=LEASE_S,
    show_default=True,
    help="A client that is silent for so long gives back what it holds.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The registry's port.")
@click.option("--loopback", is_flag=True, help="Serve this host alone, which --address local does.")
@click.option(
    "--gpu-memory-gb",
    type=click.FloatRange(0, min_open=True),
    help="The memory of a GPU; by default it is asked.",
)
@click.option(
    "--wait-s", type=click.FloatRange(0), default=120.0, show_default=True, help="For all to serve."
)
@click.option("--trust", type=FILE, multiple=True, help="Public keys whose packages they run.")
@click.option("--token-file", type=FILE, help="Tokens, on every node: TOKEN [infer|upload].")
@click.option("--no-token", is_flag=True, help="Serve everybody who reaches the ports.")
@click.option("--cert", type=FILE, help="The certificate of each node, for TLS.")
@click.option("--key", type=FILE, help="Its private key.")
@click.option("--client-ca", type=FILE, help="Whose client certificates are accepted.")
@click.option("--insecure", is_flag=True, help="Serve other hosts without TLS.")
@as_json
def up(*, address: str, name: str, as_json: bool, **given: Any) -> None:
    """Set a pool up, or let it have COUNT accelerators of a type.

    Those that are missing are added. Of those that are too many, free ones are taken down.
    """
    from eipack_ray import local_cluster, pools
    from eipack_ray.cluster import connected

    if _NAME.fullmatch(name) is None:
        raise click.BadParameter(
            f"{name[:80]!r}: write up to 40 small letters, digits and hyphens", param_hint="--name"
        )
    guard = _guard(given)
    settings = PoolSettings(
        name,
        given["lease_s"],
        given["shared"],
        given["port"],
        given["loopback"] or address == "local",
        guard,
    )
    processors = given["count"] * _processors(given["type_name"])
    if address == "local":
        local_cluster.start(processors)
    with connected(address) as found:
        on, claim = _claim(found, given)
        trust = tuple(_text(path) or "" for path in given["trust"])
        offer = Offer(given["type_name"], str(on), guard, trust)
        new = pools.up(found, settings, offer, given["count"], claim)
        late = pools.placed(found, name, new, given["wait_s"])
        described = pools.describe(found, name)
    if as_json:
        print_json(described)
    else:
        click.echo(
            f"pool {name}: {plural(len(described['accelerators']), 'accelerator')}, "
            f"{len(new)} of them new; its registry is at {described['registry']}"
        )
        click.echo(f"attach one: eipack eia attach ray://{name} --type {given['type_name']}")
    if late:
        raise AcceleratorUnavailable(
            f"{len(late)} of {plural(len(new), 'accelerator')} are not placed after "
            f"{given['wait_s']:g} s; each waits for {claim}; see: ray status, eipack eia pool list"
        )


@pool.command("list", epilog=example("eipack eia pool list", "eipack eia pool list --json"))
@_address
@click.option("--token-file", type=FILE, help="The token, where the address is a registry's.")
@click.option("--ca", type=FILE, help="As for `eia attach`.")
@as_json
def list_(*, address: str, token_file: Path | None, ca: Path | None, as_json: bool) -> None:
    """List pools, their accelerators and who holds them.

    The address may be that of a pool's registry too, which answers without Ray.
    """
    found = _described(address, token_file, ca)
    if as_json:
        print_json({"pools": found})
    elif not found:
        click.echo("there are no pools; set one up: eipack eia pool up --name NAME")
    else:
        print_table(
            ("pool", "id", "type", "state", "endpoint", "node", "restarts", "held by"),
            [_row(each["name"], one) for each in found for one in each["accelerators"]],
            right=("restarts",),
        )
        for name in [each["name"] for each in found if not each["accelerators"]]:
            note(f"pool {name} has no accelerators")


@pool.command(epilog=example("eipack eia pool down trial"))
@click.argument("name")
@_address
@as_json
def down(*, name: str, address: str, as_json: bool) -> None:
    """Take a pool down: its accelerators end what they run, for some seconds, and stop.

    A cluster of --address local stops with its last pool.
    """
    from eipack_ray import local_cluster, pools
    from eipack_ray.cluster import connected

    with connected(address) as found:
        count = pools.down(found, name)
        last = not found.pools()
    if last and address in {"auto", "local", local_cluster.running()}:
        local_cluster.stop()
    if as_json:
        print_json({"pool": name, "accelerators": count})
    else:
        click.echo(f"pool {name} is down: {plural(count, 'accelerator')} stopped")


def _described(address: str, token_file: Path | None, ca: Path | None) -> list[dict[str, Any]]:
    import msgspec
    from eipack_eia.attached import Files, endpoint_for

    from eipack.errors import DeadlineExceeded, ProtocolError
    from eipack_ray import client, local_cluster, pools
    from eipack_ray.cluster import connected

    if ":" in address and not address.startswith("ray:"):
        files = Files(token_file, ca)
        try:
            endpoint = endpoint_for(address, files)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--address") from error
        try:
            found = client.describe(endpoint, files)
            return [msgspec.to_builtins(found)]
        except (AcceleratorUnavailable, DeadlineExceeded, ProtocolError):
            pass  # then it is Ray's
    if address == "local" and local_cluster.running() is None:
        return []
    with connected(address) as cluster:
        return [pools.describe(cluster, name) for name in cluster.pools()]


def _claim(found: Cluster, given: dict[str, Any]) -> tuple[Target, Claim]:
    """Decide what the accelerators run on, and what each asks Ray for."""
    from eipack.target import Target
    from eipack_ray.claim import claim_of
    from eipack_ray.gpus import smallest_bytes

    on: Target = given["on"] or Target("cuda" if found.gpus else "cpu")
    if on.ordinal is not None:
        raise OptionRefused(f"--on {on}: Ray chooses the device; write {on.device}")
    memory_bytes = None
    if on.device == "cuda":
        gb = given["gpu_memory_gb"]
        memory_bytes = smallest_bytes(found) if gb is None else round(gb * GB)
    try:
        return on, claim_of(size_of(given["type_name"]), on, memory_bytes)
    except ValueError as error:
        raise OptionRefused(str(error)) from error


def _processors(type_name: str) -> float:
    from eipack.target import Target
    from eipack_ray.claim import claim_of

    try:
        return claim_of(size_of(type_name), Target("cpu"), None).num_cpus
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--type") from error


def _guard(given: dict[str, Any]) -> Guard:
    paths = {name: _text(given[name]) for name in ("token_file", "cert", "key", "client_ca")}
    return Guard(**paths, no_token=given["no_token"], insecure=given["insecure"])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    state = one["state"] + (f": {one['detail']}" if one["detail"] else "")
    holders = ", ".join(each["client"] for each in one["holders"])
    endpoint, node = one["endpoint"] or "", one["node"][:8]
    return (name, one["id"], one["type"], state, endpoint, node, str(one["restarts"]), holders)
