"""`eipack serve`: packages over the Open Inference Protocol, on the accelerators' own server."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from eipack_eia.cli_serve import serve as lend
from eipack_eia.endpoint import Endpoint

from eipack.cli.arguments import FILE, TargetType, as_json, example
from eipack.cli.engine import asked, engine_options
from eipack.cli.printing import note

if TYPE_CHECKING:
    from eipack_eia.server.worker import Settings

    from eipack.target import Target

_GB: Final = 1_000_000_000
_COMMAND: Final = "eipack serve"
_AS_LENT: Final = (
    "workers",
    "queue",
    "max_batch",
    "max_delay_us",
    "connections",
    "body_gb",
    "call_timeout_s",
    "trust",
    "token_file",
    "no_token",
    "cert",
    "key",
    "client_ca",
    "insecure",
    "allow_host",
)
"""Options that mean here what they mean for `eipack eia serve`."""


@click.command(
    params=[param for param in lend.params if param.name in _AS_LENT],
    epilog=example(
        "eipack serve resnet18.eipack",
        "eipack serve resnet18.eipack bert.eipack --target eia:0 --port 8001 --workers 4",
        "eipack serve model.eipack --host 0.0.0.0 --token-file tokens --cert c.pem --key k.pem",
    ),
)
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--target", type=TargetType(), default="cpu", show_default=True, help="Where it runs."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen at; 0 is a free one.",
)
@click.option("--name", "names", multiple=True, help="The model's name; once for each FILE.")
@engine_options
@as_json
def serve(
    *,
    files: tuple[Path, ...],
    names: tuple[str, ...],
    target: Target,
    as_json: bool,
    **given: Any,
) -> None:
    """Serve packages over the Open Inference Protocol (KServe v2), until it is interrupted.

    Requests that run are finished first. Clients of this host need no token unless you name a
    file of them; for other hosts it wants TLS, and tokens or client certificates.
    """
    from eipack_eia.server.supervisor import Slice, listen_at, supervise

    _check(target, given)
    models = _models(files, names, tuple(given["trust"]))
    with ExitStack() as stack:
        listening, endpoint = listen_at(Endpoint(given["host"], given["port"]), "--host or --port")
        stack.callback(listening.close)
        settings = _settings(endpoint, listening.fileno(), models, target, given)
        one = Slice(settings, listening)
        stack.callback(one.stop)
        one.start()
        _tell(settings, models, as_json=as_json)
        supervise([one], note)


serve.params.sort(key=lambda param: param.name in _AS_LENT)  # help lists this command's own first


def _check(target: Target, given: dict[str, Any]) -> None:
    from eipack.registry import is_auto

    if given["max_delay_us"] and given["max_batch"] == 1:
        raise click.UsageError("--max-delay-us is for batches; give --max-batch too")
    if is_auto(target):
        raise click.UsageError(f"{target} is not for a server; name what eipack tune recommends")


def _models(
    files: tuple[Path, ...], names: tuple[str, ...], trust: tuple[Path, ...]
) -> dict[str, str]:
    """Return the file of each model; whoever is not trusted is refused before anything starts."""
    from eipack.package import Package

    if names and len(names) != len(files):
        raise click.UsageError(f"give --name once for each FILE: {len(names)} for {len(files)}")
    models: dict[str, str] = {}
    for number, file in enumerate(files):
        with Package.open(file) as package:
            package.check_trust(list(trust) or None)
            name = names[number] if names else _plain(package.name)
        if name in models:
            raise click.UsageError(f"two models are called {name!r}; give each FILE a --name")
        if name != _plain(name):
            raise click.BadParameter(
                f"{name!r} has other than A-Z a-z 0-9 . _ -", param_hint="--name"
            )
        models[name] = str(file.absolute())
    return models


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _settings(
    endpoint: Endpoint,
    descriptor: int,
    models: dict[str, str],
    target: Target,
    given: dict[str, Any],
) -> Settings:
    """Say how the process is to be set up.

    Raises:
        AcceleratorDenied: What is given leaves it open to others, or contradicts itself.
        KeyUnavailable: A file of tokens or keys cannot be used.
    """
    from attrs import evolve
    from eipack_eia.credentials import is_loopback
    from eipack_eia.server.access import Access
    from eipack_eia.server.fixed import Fixed
    from eipack_eia.server.worker import Settings
    from eipack_eia.sizes import SliceSize

    if given["cert"]:
        endpoint = evolve(endpoint, scheme="https")
    known = given["token_file"] or given["client_ca"]
    no_token = given["no_token"] or (is_loopback(endpoint.host) and not known)
    secrets = {name: given[name] for name in ("token_file", "cert", "key", "client_ca")}
    allow_hosts, insecure = tuple(given["allow_host"]), given["insecure"]
    Access.plan(endpoint, **secrets, no_token=no_token, insecure=insecure, allow_hosts=allow_hosts)
    engine = asked(given["precision"], given["threads"], given["of_engine"])
    threads = engine.pop("threads")
    paths = {name: path and str(path.absolute()) for name, path in secrets.items()}
    return Settings(
        id=_COMMAND,
        on=str(target),
        listen=str(endpoint),
        descriptor=descriptor,
        size=SliceSize("whole", 0),
        store="",
        store_bytes=0,
        workers=given["workers"],
        queue=given["queue"],
        call_timeout_s=given["call_timeout_s"],
        connections=given["connections"],
        body_bytes=round(given["body_gb"] * _GB),
        max_batch=given["max_batch"],
        max_delay_us=given["max_delay_us"],
        trust=tuple(str(path.absolute()) for path in given["trust"]),
        token_file=paths["token_file"],
        no_token=no_token,
        certificate=paths["cert"],
        key=paths["key"],
        client_ca=paths["client_ca"],
        insecure=insecure,
        allow_hosts=allow_hosts,
        fixed=Fixed(models, engine),
        threads=threads,
    )


def _tell(settings: Settings, models: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        document = {
            "endpoint": settings.listen,
            "target": settings.on,
            "models": models,
            "token_file": settings.token_file,
        }
        click.echo(json.dumps(document))  # one line, for whoever waits for it
    else:
        address = settings.listen if settings.certificate else f"http://{settings.listen}"
        for name in models:
            click.echo(f"{name} on {settings.on}, at {address}/v2/models/{name}")
    sys.stdout.flush()
