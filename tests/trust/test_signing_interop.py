"""The library model_signing verifies our signings, and we verify the library's."""

import base64
import json

import pytest

from eipack.errors import SigningInvalid
from eipack.trust import SigningKey, canonical_signing, sign_manifest, verify_manifest

model_signing = pytest.importorskip("model_signing")

MANIFEST = b'{"format": 1}\n'


@pytest.fixture
def folder(tmp_path):
    """A folder with a manifest alone, as it was when it was signed."""
    folder = tmp_path / "resnet18"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(MANIFEST)
    return folder


@pytest.fixture
def key_file(tmp_path, alice):
    (tmp_path / "key.pem").write_bytes(alice._pem())
    return tmp_path / "key.pem"


@pytest.fixture
def public_file(tmp_path, alice):
    (tmp_path / "public.pem").write_text(alice.public.pem)
    return tmp_path / "public.pem"


def library_verifies(folder, bundle, public_file):
    file = folder.parent / "bundle.sig"
    file.write_bytes(bundle)
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public_file)
    config.verify(folder, file)


def library_signs(folder, key_file, hashing=None):
    file = folder.parent / "library.sig"
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=key_file)
    if hashing is not None:
        config.set_hashing_config(hashing)
    config.sign(folder, file)
    return file.read_bytes()


def test_the_library_verifies_ours(folder, alice, public_file):
    library_verifies(folder, sign_manifest(MANIFEST, alice), public_file)


def test_the_library_refuses_ours_over_another_manifest(folder, alice, public_file):
    with pytest.raises(ValueError, match=r"Hash mismatch for 'manifest\.json'"):
        library_verifies(folder, sign_manifest(b"{}", alice), public_file)


def test_the_library_refuses_ours_beside_a_second_file(folder, alice, public_file):
    (folder / "extra.bin").touch()
    with pytest.raises(ValueError, match="Extra files"):
        library_verifies(folder, sign_manifest(MANIFEST, alice), public_file)


def test_the_library_refuses_ours_by_another_key(folder, bob, public_file):
    with pytest.raises(ValueError, match="Key mismatch"):
        library_verifies(folder, sign_manifest(MANIFEST, bob), public_file)


@pytest.mark.parametrize("_", range(8))
def test_ours_verifies_the_librarys(folder, alice, key_file, _):
    # Several times: about half of the library's signatures have the larger s.
    signing = canonical_signing(library_signs(folder, key_file))
    assert verify_manifest(MANIFEST, signing, [alice.public]) == alice.public


def test_the_library_verifies_its_own_in_canonical_form(folder, key_file, public_file):
    library_verifies(folder, canonical_signing(library_signs(folder, key_file)), public_file)


def test_ours_refuses_the_librarys_over_another_manifest(folder, alice, key_file):
    signing = canonical_signing(library_signs(folder, key_file))
    with pytest.raises(SigningInvalid):
        verify_manifest(b"{}", signing, [alice.public])


def test_ours_refuses_the_librarys_over_two_files(folder, alice, key_file):
    (folder / "extra.bin").touch()
    signing = canonical_signing(library_signs(folder, key_file))
    with pytest.raises(SigningInvalid):
        verify_manifest(MANIFEST, signing, [alice.public])


@pytest.mark.parametrize("method", ["blake2", "shards"])
def test_ours_refuses_the_librarys_other_digests(folder, alice, key_file, method):
    hashing = model_signing.hashing.Config()
    if method == "shards":
        hashing.use_shard_serialization()
    else:
        hashing.use_file_serialization(hashing_algorithm="blake2")
    signing = canonical_signing(library_signs(folder, key_file, hashing))
    with pytest.raises(SigningInvalid):
        verify_manifest(MANIFEST, signing, [alice.public])


def test_ours_refuses_the_librarys_by_another_curve(folder, tmp_path, alice):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    file = tmp_path / "p384.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(SigningInvalid):
        canonical_signing(library_signs(folder, file))


def test_both_write_the_same_statement_and_bundle(folder, key_file, alice):
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    theirs = json.loads(library_signs(folder, key_file, hashing))
    ours = json.loads(sign_manifest(MANIFEST, alice))
    statements = []
    for bundle in (theirs, ours):
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"].pop("payload")))
        statement["subject"][0].pop("name")
        bundle["dsseEnvelope"]["signatures"][0].pop("sig")
        statements.append(statement)
    assert statements[0] == statements[1]
    assert theirs == ours


def test_both_name_a_key_alike(folder, key_file, alice):
    theirs = json.loads(library_signs(folder, key_file))
    assert theirs["verificationMaterial"]["publicKey"]["hint"] == alice.public.hint


def test_a_new_key_signs_what_the_library_verifies(folder, public_file):
    key = SigningKey.generate()
    public_file.write_text(key.public.pem)
    library_verifies(folder, sign_manifest(MANIFEST, key), public_file)
