"""`eipack trust`: whose packages may be loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eipack.cli.arguments import FILE, as_json, example
from eipack.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from eipack.trust import TrustedKey


@click.group(
    epilog=example(
        "eipack trust show > me.pem          (give me.pem to others)",
        "eipack trust add colleague.pem",
    )
)
def trust() -> None:
    """Say whose packages may be loaded here.

    Your own packages are trusted; those of others once you have added their public key.
    """


@trust.command(epilog=example("eipack trust show > me.pem"))
@as_json
def show(as_json: bool) -> None:
    """Print your own public key, to give away.

    A key is made if there is none. The PEM goes to stdout, the key's id to stderr, so that the
    former can be put in a file.
    """
    from eipack.signing import signing_key

    key = signing_key().public
    if as_json:
        print_json({"key_id": key.key_id, "hint": key.hint, "public_key": key.pem})
        return
    click.echo(key.pem, nl=False)
    click.echo(f"key id: {key.key_id}, signs as {key.hint[:16]}", err=True)


@trust.command(name="list", epilog=example("eipack trust list"))
@as_json
def list_keys(as_json: bool) -> None:
    """List the keys that are trusted here, and why.

    What a key signs as is how its packages name it: it begins with that.
    """
    from eipack.trust import trusted_keys

    found = trusted_keys()
    if as_json:
        print_json([_document(trusted) for trusted in found])
        return
    if not found:
        click.echo("no key is trusted here yet; your own is made at the first export")
        return
    print_table(
        ("label", "key id", "signs as", "source", "added", "where"),
        [
            (
                trusted.label,
                trusted.key.key_id,
                trusted.key.hint[:16],
                trusted.source,
                trusted.added.date().isoformat() if trusted.added else "",
                trusted.location,
            )
            for trusted in found
        ],
    )


@trust.command(epilog=example("eipack trust add colleague.pem --label colleague"))
@click.argument("file", type=FILE)
@click.option("--label", help="What to call the key; by default the file's name.")
@as_json
def add(file: Path, label: str | None, as_json: bool) -> None:
    """Trust the owner of a public key (PEM) from now on.

    Whoever owns the key can then run code here: compare its id with its owner first.
    """
    from eipack.trust import PublicKey
    from eipack.trust import add as add_key

    key = PublicKey.read(file)
    try:
        trusted = add_key(key, file.stem if label is None else label)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--label") from error
    _tell(trusted, "trusted from now on", as_json=as_json)


@trust.command(epilog=example("eipack trust remove colleague"))
@click.argument("name")
@as_json
def remove(name: str, as_json: bool) -> None:
    """Trust an added key no longer.

    NAME is its label or id, or the beginning of either.
    """
    from eipack.trust import remove as remove_key

    _tell(remove_key(name), "trusted no longer", as_json=as_json)


def _tell(trusted: TrustedKey, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(trusted))
        return
    signs = f"signs as {trusted.key.hint[:16]}"
    click.echo(f"{trusted.label} ({trusted.key.key_id}, {signs}): {what}")


def _document(trusted: TrustedKey) -> dict[str, Any]:
    return {
        "label": trusted.label,
        "key_id": trusted.key.key_id,
        "hint": trusted.key.hint,
        "source": trusted.source,
        "added": trusted.added.isoformat() if trusted.added else None,
        "location": trusted.location,
        "public_key": trusted.key.pem,
    }
