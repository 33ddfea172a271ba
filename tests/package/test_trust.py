"""Who may have a package loaded: the way of trust through files, environment and arguments."""

import subprocess
import sys

import pytest
import torch

import eipack
from eipack.errors import KeyUnavailable, SigningInvalid, UntrustedPackage
from eipack.package import verified
from eipack.trust import SigningKey, add, own_key, sign_manifest


@pytest.fixture
def foreign(path, rewrite, stranger):
    return rewrite(path, [stranger])


@pytest.fixture
def unsigned(path, rewrite):
    return rewrite(path)


@pytest.fixture
def public(stranger, tmp_path):
    """Write the stranger's public key to a PEM file."""
    file = tmp_path / "stranger.pem"
    file.write_text(stranger.public.pem)
    return file


def acts(path, tmp_path):
    """Give everything that brings code or files of a package to life."""
    return {
        "load": lambda: eipack.load(path),
        "extract": lambda: eipack.open(path).extract("torchscript", tmp_path / "out.pt"),
        "unpack": lambda: eipack.open(path).unpack_asset("labels", tmp_path / "out"),
        "verify": lambda: eipack.verify(path),
    }


@pytest.mark.parametrize("act", ["load", "extract", "unpack", "verify"])
def test_an_unsigned_package_can_be_looked_at_and_no_more(unsigned, path, tmp_path, act):
    with eipack.open(unsigned) as package:
        assert package.signers() == []
        assert package.asset("licence") == b"Do what you like."
        assert not eipack.diff(package, path).signature
    with pytest.raises(UntrustedPackage, match="is not signed; sign it with `eipack sign`"):
        acts(unsigned, tmp_path)[act]()
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("act", ["load", "extract", "unpack", "verify"])
def test_a_foreign_package_can_be_looked_at_and_no_more(foreign, stranger, tmp_path, act):
    with eipack.open(foreign) as package:
        assert package.signers() == [stranger.public.hint]
        assert len(package.samples()[0]) == 1
    with pytest.raises(UntrustedPackage, match=r"eipack trust add KEY\.pem") as caught:
        acts(foreign, tmp_path)[act]()
    assert caught.value.key_ids == [stranger.public.hint]
    assert not (tmp_path / "out.pt").exists()


def test_a_key_that_is_added_opens_the_package(foreign, stranger, fresh_home, x):
    add(stranger.public, "the stranger")
    with eipack.load(foreign) as session:
        session(x)
    assert eipack.verify(foreign) == stranger.public


def test_a_key_in_the_environment_opens_the_package(foreign, public, monkeypatch, x):
    monkeypatch.setenv("EIPACK_TRUSTED_KEYS", str(public))
    with eipack.load(foreign) as session:
        session(x)


def test_a_key_given_to_load_opens_the_package(foreign, public, stranger):
    for trust in (public, str(public), stranger.public, [stranger.public]):
        eipack.load(foreign, trust=trust).close()
        assert eipack.verify(foreign, trust=trust) == stranger.public


def test_trust_given_to_load_leaves_out_ones_own_key(path, stranger):
    eipack.load(path).close()
    with pytest.raises(UntrustedPackage):
        eipack.load(path, trust=stranger.public)
    with pytest.raises(UntrustedPackage):
        eipack.load(path, trust=[])


def test_the_signing_key_of_the_environment_signs_exports(
    fresh_home, stranger, monkeypatch, model, x
):
    monkeypatch.setenv("EIPACK_SIGNING_KEY", stranger._pem().decode())
    package = eipack.export(model, inputs=(x,))
    assert package.signers() == [stranger.public.hint]
    assert not (fresh_home / "config").exists()


def test_a_signing_key_that_cannot_be_used_stops_the_export(monkeypatch, model, x):
    monkeypatch.setenv("EIPACK_SIGNING_KEY", "/nowhere/key.pem")
    with pytest.raises(KeyUnavailable, match="EIPACK_SIGNING_KEY names no file"):
        eipack.export(model, inputs=(x,))


class TestSigning:
    def test_stands_beside_the_signings_that_are_there(self, path, stranger):
        ours = eipack.open(path).signers()
        assert eipack.sign(path, key=stranger) == stranger.public
        with eipack.open(path) as package:
            assert sorted(package.signers()) == sorted([*ours, stranger.public.hint])
        assert eipack.verify(path) == own_key(create=False).public
        assert eipack.verify(path, trust=stranger.public) == stranger.public

    def test_twice_by_one_key_leaves_one_signing(self, path, stranger):
        eipack.sign(path, key=stranger)
        eipack.sign(path, key=stranger)
        assert len(eipack.open(path).signers()) == 2

    def test_makes_an_unsigned_package_loadable(self, unsigned, x):
        eipack.sign(unsigned)
        with eipack.load(unsigned) as session:
            session(x)

    def test_keeps_everything_else(self, path, stranger):
        with eipack.open(path) as before:
            eipack.sign(path, key=stranger)
            assert eipack.diff(before, path).same
            assert [change.after for change in eipack.diff(before, path).signers] == [
                stranger.public.hint
            ]

    def test_keeps_the_files_mode_and_signs_what_a_link_leads_to(self, path, tmp_path, stranger):
        path.chmod(0o640)
        link = tmp_path / "link.eipack"
        link.symlink_to(path)
        eipack.sign(link, key=stranger)
        assert link.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o640
        assert stranger.public.hint in eipack.open(path).signers()

    def test_refuses_a_package_that_is_not_what_its_manifest_says(self, path):
        data = bytearray(path.read_bytes())
        data[-3000] ^= 1
        path.write_bytes(data)
        before = path.read_bytes()
        with pytest.raises(eipack.EipackError):
            eipack.sign(path)
        assert path.read_bytes() == before


def test_a_signing_for_another_manifest_is_refused(path, rewrite, model, x, tmp_path):
    other = eipack.export(model, inputs=(x,), name="other")
    for trust in (None, own_key(create=False).public):
        with pytest.raises(SigningInvalid, match=r"what was signed is not this manifest\.json"):
            eipack.load(rewrite(path, signings=other.signings()), trust=trust)


def test_one_bad_signing_beside_a_good_one_is_refused(path, rewrite, stranger):
    with eipack.open(path) as package:
        signings = package.signings()
    lie = sign_manifest(b"another manifest", stranger)
    with pytest.raises(SigningInvalid):
        eipack.load(rewrite(path, signings={**signings, "signing/zz.json": lie}))


def test_signings_out_of_order_or_out_of_measure_are_refused(path, rewrite, stranger):
    many = {f"signing/{number:03}.json": b"{}" for number in range(65)}
    for signings in (many, {"signing/large.json": bytes(70_000)}):
        with pytest.raises(eipack.EipackError, match="more signings, or larger ones"):
            eipack.open(rewrite(path, signings=signings))


class TestWhatIsVerifiedIsWhatIsLoaded:
    def test_a_file_exchanged_after_it_was_opened_is_not_the_one_loaded(
        self, path, foreign, x, model
    ):
        with eipack.open(path) as package:
            foreign.replace(path)
            with eipack.load(package) as session:
                assert torch.equal(session(x), model(x).detach())

    def test_code_is_hashed_in_the_memory_that_the_loader_gets(self, path, monkeypatch):
        handed = []
        real = verified.digest_bytes
        monkeypatch.setattr(
            verified, "digest_bytes", lambda data: handed.append(data) or real(data)
        )
        with eipack.open(path) as package:
            reader = package._read_program(package.program("torchscript"))
            handed.clear()
            data = reader.member("graph.pt")
        assert handed == [data]
        assert handed[0] is data

    def test_weights_that_others_can_write_are_hashed_in_the_memory_that_is_bound(
        self, path, monkeypatch
    ):
        path.chmod(0o666)
        real = verified.tensor_digests

        def meanwhile(views):
            path.write_bytes(bytes(path.stat().st_size))
            return real(views)

        monkeypatch.setattr(verified, "tensor_digests", meanwhile)
        with eipack.open(path) as package:
            with pytest.raises(eipack.EipackError, match="was written to"):
                package._read_program(package.program("torchscript"))


MODEL_SIGNING = """
import sys
from pathlib import Path
import model_signing
folder, key = Path(sys.argv[1]), Path(sys.argv[2])
config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key)
config.set_hashing_config(
    model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
).verify(folder / "model", folder / "signing.json")
"""


def test_the_openssf_library_verifies_the_signing_of_a_package(path, tmp_path):
    pytest.importorskip("model_signing")
    (tmp_path / "model").mkdir()
    with eipack.open(path) as package:
        (tmp_path / "model" / "manifest.json").write_bytes(package.manifest.to_json())
        ((_, signing),) = package.signings().items()
    (tmp_path / "signing.json").write_bytes(signing)
    key = tmp_path / "key.pem"
    key.write_text(own_key(create=False).public.pem)
    command = [sys.executable, "-W", "ignore", "-c", MODEL_SIGNING, str(tmp_path), str(key)]
    subprocess.run(command, check=True)
    (tmp_path / "model" / "manifest.json").write_bytes(b"{}")
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_own_keys_are_made_at_the_first_export_only(fresh_home, model, x):
    assert own_key(create=False) is None
    package = eipack.export(model, inputs=(x,))
    assert package.signers() == [own_key(create=False).public.hint]
    again = eipack.export(model, inputs=(x,))
    assert again.signers() == package.signers()
    assert isinstance(own_key(create=False), SigningKey)
