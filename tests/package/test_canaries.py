"""Programs that run code when they are loaded: so they do in torch, and never through eipack.

Each canary creates a file. It is put where a program of a real package lies, by somebody whom
nobody trusts, in every way that such a person has.
"""

import io
import json
import os
import shutil
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import pytest
import torch
from attrs import evolve

import eipack
from eipack.archive import digest_bytes
from eipack.backend import Program
from eipack.errors import DigestMismatch, EipackError, MalformedPackage, PackageError, TrustError
from eipack.staging import stage

SCRIPT, EXPORTED = "programs/torchscript/graph.pt", "programs/exported/graph.pt2"


class WritesOnLoading(torch.nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.file = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self):
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        self.file = torch.from_file(self.path, True, 8)

    def forward(self, x):
        return x


class Pickled:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def scripted(canary):
    return torch.jit.script(WritesOnLoading(str(canary)).eval())


def setstate(canary, folder):
    """Return TorchScript whose `__setstate__` maps a new file, in the form that packages hold."""
    staged = stage(Program("torchscript", scripted(canary), None, "script"))
    return staged.member("graph.pt")


def pickled(canary, folder):
    """Return a `.pt2` whose sample inputs are an object that a restricted load refuses."""
    plain, evil, out = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), plain)
    torch.save(Pickled(canary), evil)
    with zipfile.ZipFile(plain) as old:
        members = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
    members["data/sample_inputs/model.pt"] = evil.getvalue()
    return archive(members, out)


def native(canary, folder):
    """Return an AOTInductor package whose library has a constructor."""
    if shutil.which("gcc") is None:
        pytest.skip("a native constructor takes a C compiler to make, and there is none")
    source = folder / "canary.c"
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void f(void)"
        f'{{FILE *p = fopen("{canary}", "w"); if (p) fclose(p);}}\n'
    )
    library = folder / "canary.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return inductor({"m.wrapper.so": library.read_bytes(), "m.wrapper.cpp": b""})


def flags(canary, folder):
    """Return an AOTInductor package whose compile flags name a command."""
    lists = ("include_dirs", "definitions", "cflags", "ldflags", "libraries_dirs", "libraries")
    told = {name: [] for name in (*lists, "passthrough_args")}
    switches = ("aot_mode", "use_absolute_path", "use_relative_path", "preprocessing")
    told |= dict.fromkeys((*switches, "use_custom_glue"), False)
    told |= {"compiler": f"touch {canary};", "compile_only": True}
    names = ("m.wrapper_compile_flags.json", "m.wrapper_linker_flags.json")
    return inductor({"m.wrapper.cpp": b"", **dict.fromkeys(names, json.dumps(told).encode())})


def inductor(files):
    metadata = {"m.wrapper_metadata.json": b'{"AOTI_DEVICE_KEY":"cpu"}'}
    members = {
        f"data/aotinductor/model/{name}": data for name, data in {**files, **metadata}.items()
    }
    return archive({"archive_format": b"pt2", "archive_version": b"0", **members}, io.BytesIO())


def archive(members, out):
    writer = torch._C.PyTorchFileWriter(out)
    for name, data in members.items():
        if name not in {".data/version", "version", "byteorder", ".data/serialization_id"}:
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return out.getvalue()


CANARIES = {
    "setstate": (setstate, SCRIPT),
    "pickle": (pickled, EXPORTED),
    "native": (native, EXPORTED),
    "flags": (flags, EXPORTED),
}


def load_inductor(path):
    torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)


RAW = {
    "setstate": torch.jit.load,
    "pickle": torch.export.load,
    "native": load_inductor,
    "flags": load_inductor,
}


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.mark.parametrize("kind", CANARIES)
def test_the_canary_sings_in_the_raw_loader(kind, canary, tmp_path):
    file = tmp_path / "payload.pt2"
    if kind == "setstate":
        torch.jit.save(scripted(canary), file)
    else:
        file.write_bytes(CANARIES[kind][0](canary, tmp_path))
    canary.unlink(missing_ok=True)
    # What they load is no model: they run it first, and complain then.
    with suppress(Exception):
        RAW[kind](file)
    assert canary.exists()


@pytest.fixture(params=CANARIES)
def payload(request, canary, tmp_path):
    make, member = CANARIES[request.param]
    data = make(canary, tmp_path)
    canary.unlink(missing_ok=True)
    return member, data


@pytest.fixture
def poisoned(payload, path):
    """Put the payload into a package: its member, and a manifest that has the right digest."""
    member, data = payload
    with eipack.open(path) as package:
        manifest = package.manifest
        signings = package.signings()
    records = tuple(
        evolve(record, size=len(data), crc32=crc32(data), digest=digest_bytes(data))
        if record.name == member
        else record
        for record in manifest.members
    )
    return {member: data}, evolve(manifest, members=records).to_json(), signings


def handle(path: Path, original: Path, folder: Path):
    """Do everything to a package that can be done to one; none of it may raise another error."""
    kinds = ("torchscript", "exported", "onnx")
    with suppress(EipackError), eipack.open(path) as package:
        acts = [
            package.signers,
            package.samples,
            lambda: package.asset("labels.json"),
            lambda: eipack.diff(original, package),
            lambda: package.unpack_asset("labels", folder / "assets"),
            package.verify,
            *(lambda kind=kind: package.extract(kind, folder / kind) for kind in kinds),
            *(lambda kind=kind: eipack.load(package, program=kind) for kind in kinds),
            *(lambda kind=kind: eipack.load(path, program=kind) for kind in kinds),
            lambda: eipack.verify(path),
        ]
        for act in acts:
            with suppress(PackageError, TrustError):
                act()


@pytest.mark.parametrize("signed_by", ["nobody", "a stranger", "the maker of the original"])
def test_the_canary_is_silent_in_a_package_of_somebody_else(
    poisoned, canary, path, rewrite, stranger, signed_by
):
    members, manifest, old = poisoned
    keys = [stranger] if signed_by == "a stranger" else []
    signings = old if signed_by == "the maker of the original" else {}
    bad = rewrite(path, keys, manifest=manifest, signings=signings, members=members)
    handle(bad, path, bad.parent)
    assert not canary.exists()
    with pytest.raises(TrustError):
        eipack.load(bad)


def test_the_canary_is_silent_under_a_manifest_that_was_signed(
    poisoned, canary, path, rewrite, tmp_path
):
    members, _, signings = poisoned
    bad = rewrite(path, signings=signings, members=members)
    handle(bad, path, tmp_path)
    assert not canary.exists()
    with pytest.raises(MalformedPackage):
        eipack.load(bad)


def test_the_canary_is_silent_where_size_and_crc_were_mended(
    payload, canary, path, rewrite, tmp_path
):
    """The manifest gives the payload's size and CRC and the digest that was signed once."""
    member, data = payload
    with eipack.open(path) as package:
        manifest = package.manifest
    records = tuple(
        evolve(record, size=len(data), crc32=crc32(data)) if record.name == member else record
        for record in manifest.members
    )
    from eipack.trust import own_key

    lying = evolve(manifest, members=records).to_json()
    bad = rewrite(path, [own_key(create=False)], manifest=lying, members={member: data})
    handle(bad, path, tmp_path)
    assert not canary.exists()
    with pytest.raises(DigestMismatch):
        eipack.load(bad)


@pytest.mark.parametrize("payload", ["setstate", "pickle"], indirect=True)
def test_the_canary_would_sing_for_whoever_trusts_its_maker(
    poisoned, canary, path, rewrite, stranger
):
    """Show that the payloads lie where the loaders find them: trust is what keeps them silent."""
    members, manifest, _ = poisoned
    bad = rewrite(path, [stranger], manifest=manifest, members=members)
    kind = next(iter(members)).split("/")[1]
    with suppress(EipackError):
        eipack.load(bad, program=kind, trust=stranger.public)
    assert canary.exists()
