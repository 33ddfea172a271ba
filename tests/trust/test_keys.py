"""Public keys, and this user's own key: where it comes from and what is refused."""

import os
import pickle
import stat
import subprocess
import sys
import traceback

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from eipack.errors import KeyUnavailable
from eipack.trust import PublicKey, SigningKey, own_key
from eipack.trust.keys import lower_s

OWN_KEY = "from eipack.trust import own_key; print(own_key(create=True).public.key_id)"


def private_pem(key, password=None):
    lock = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
    ).decode()


def public_pem(key):
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@pytest.fixture(scope="module")
def foreign():
    """A key that eipack did not make."""
    return ec.generate_private_key(ec.SECP256R1())


def secrets_of(pem):
    """The parts of a PEM text that nobody may see."""
    return [line for line in pem.splitlines() if line and not line.startswith("-----")]


class TestPublicKey:
    def test_its_pem_reads_back_as_the_same_key(self, alice):
        assert PublicKey.from_pem(alice.public.pem) == alice.public

    def test_its_pem_is_what_other_tools_write(self, foreign):
        assert PublicKey.from_pem(public_pem(foreign)).pem == public_pem(foreign)

    def test_its_id_is_the_digest_of_its_der(self, alice):
        import hashlib

        digest = hashlib.sha256(alice.public.der).hexdigest()
        assert alice.public.key_id == "ec-p256:" + digest[:32]

    def test_a_compressed_point_is_the_same_key(self, foreign):
        point = foreign.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        again = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        pem = again.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert PublicKey.from_pem(pem) == PublicKey.from_pem(public_pem(foreign))

    def test_a_label_does_not_make_another_key(self, alice):
        assert PublicKey.from_pem(alice.public.pem, "a label") == alice.public

    def test_a_file_labels_its_key_by_its_name(self, alice, tmp_path):
        (tmp_path / "alice.pem").write_text(alice.public.pem)
        assert PublicKey.read(tmp_path / "alice.pem").label == "alice"

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(KeyUnavailable, match=r"none\.pem does not exist"):
            PublicKey.read(tmp_path / "none.pem")

    def test_a_file_that_everybody_may_write_is_refused(self, alice, tmp_path):
        file = tmp_path / "alice.pem"
        file.write_text(alice.public.pem)
        file.chmod(0o666)
        with pytest.raises(KeyUnavailable, match="changed by others"):
            PublicKey.read(file)

    @pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()])
    def test_other_curves_are_refused(self, curve):
        with pytest.raises(KeyUnavailable, match="P-256"):
            PublicKey.from_pem(public_pem(ec.generate_private_key(curve)))

    @pytest.mark.parametrize("text", ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n", "\udc80"])
    def test_what_is_no_key_is_refused(self, text):
        with pytest.raises(KeyUnavailable):
            PublicKey.from_pem(text)

    def test_two_keys_in_one_text_are_refused(self, alice, bob):
        with pytest.raises(KeyUnavailable, match="exactly one"):
            PublicKey.from_pem(alice.public.pem + bob.public.pem)

    def test_bytes_that_are_no_point_of_the_curve_are_refused(self, alice):
        with pytest.raises(KeyUnavailable):
            PublicKey(alice.public.der[:-1] + bytes([alice.public.der[-1] ^ 1]))

    def test_a_private_key_is_refused_and_not_shown(self, foreign):
        pem = private_pem(foreign)
        with pytest.raises(KeyUnavailable, match="private key") as caught:
            PublicKey.from_pem(pem)
        assert not any(secret in str(caught.value) for secret in secrets_of(pem))

    def test_it_verifies_what_its_private_key_signed(self, alice):
        assert alice.public.verify(b"data", alice.sign(b"data"))

    def test_it_verifies_nothing_else(self, alice, bob):
        signature = alice.sign(b"data")
        assert not alice.public.verify(b"date", signature)
        assert not bob.public.verify(b"data", signature)
        assert not alice.public.verify(b"data", b"")


class TestOwnKey:
    def test_there_is_none_before_the_first_export(self, config):
        assert own_key(create=False) is None
        assert not config.exists()

    def test_it_is_made_once_and_kept(self, config):
        assert own_key(create=True).public == own_key(create=False).public

    def test_only_its_owner_can_read_it(self, config):
        own_key(create=True)
        assert stat.S_IMODE(config.stat().st_mode) == 0o700
        assert stat.S_IMODE((config / "signing-key.pem").stat().st_mode) == 0o600

    def test_a_wide_umask_changes_nothing(self, config):
        before = os.umask(0)
        try:
            own_key(create=True)
        finally:
            os.umask(before)
        assert stat.S_IMODE(config.stat().st_mode) == 0o700
        assert stat.S_IMODE((config / "signing-key.pem").stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_a_key_open_to_others_is_refused(self, config, mode):
        own_key(create=True)
        (config / "signing-key.pem").chmod(mode)
        with pytest.raises(KeyUnavailable, match=r"chmod 600 .*EIPACK_SIGNING_KEY"):
            own_key(create=True)

    def test_processes_that_start_together_end_with_one_key(self, config):
        processes = [
            subprocess.Popen([sys.executable, "-c", OWN_KEY], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        answers = {process.communicate(timeout=60)[0].strip() for process in processes}
        assert answers == {own_key(create=False).public.key_id}
        assert {file.name for file in config.iterdir()} == {"signing-key.pem", ".lock"}

    def test_a_damaged_key_is_refused_and_left(self, config):
        own_key(create=True)
        file = config / "signing-key.pem"
        file.write_text(file.read_text()[:100])
        damaged = file.read_bytes()
        with pytest.raises(KeyUnavailable, match="EIPACK_SIGNING_KEY"):
            own_key(create=True)
        assert file.read_bytes() == damaged

    def test_no_home_gets_its_own_sentence(self, monkeypatch, config):
        monkeypatch.setattr("eipack.trust.keys.config_folder", lambda: None)
        assert own_key(create=False) is None
        with pytest.raises(KeyUnavailable, match=r"no home folder.*EIPACK_SIGNING_KEY"):
            own_key(create=True)

    def test_a_read_only_home_gets_its_own_sentence(self, monkeypatch, config):
        def read_only(*_, **__):
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(os, "mkdir", read_only)
        with pytest.raises(KeyUnavailable, match=r"cannot write .*Read-only.*EIPACK_SIGNING_KEY"):
            own_key(create=True)

    def test_a_file_in_the_way_of_the_folder_is_said(self, monkeypatch, config):
        config.write_text("not a folder")
        monkeypatch.setenv("EIPACK_CONFIG_DIR", str(config / "below"))
        assert own_key(create=False) is None
        with pytest.raises(KeyUnavailable, match=r"Not a directory.*EIPACK_SIGNING_KEY"):
            own_key(create=True)


class TestSigningKeyVariable:
    def test_it_may_be_a_path(self, config, monkeypatch, tmp_path, foreign):
        file = tmp_path / "key.pem"
        file.write_text(private_pem(foreign))
        file.chmod(0o600)
        monkeypatch.setenv("EIPACK_SIGNING_KEY", str(file))
        assert own_key(create=False).public.pem == public_pem(foreign)

    def test_it_may_be_the_text(self, config, monkeypatch, foreign):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", private_pem(foreign))
        assert own_key(create=True).public.pem == public_pem(foreign)
        assert not config.exists()

    def test_it_may_be_the_text_on_one_line(self, config, monkeypatch, foreign):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", private_pem(foreign).replace("\n", "\\n"))
        assert own_key(create=True).public.pem == public_pem(foreign)

    def test_it_may_be_a_key_as_openssl_writes_it(self, config, monkeypatch, foreign):
        parameters = (
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        key = foreign.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()
        monkeypatch.setenv("EIPACK_SIGNING_KEY", parameters + key)
        assert own_key(create=True).public.pem == public_pem(foreign)

    def test_an_empty_one_is_refused(self, config, monkeypatch):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", "")
        with pytest.raises(KeyUnavailable, match="set but empty"):
            own_key(create=True)

    def test_a_file_open_to_others_is_refused(self, config, monkeypatch, tmp_path, foreign):
        file = tmp_path / "key.pem"
        file.write_text(private_pem(foreign))
        file.chmod(0o644)
        monkeypatch.setenv("EIPACK_SIGNING_KEY", str(file))
        with pytest.raises(KeyUnavailable, match="chmod 600"):
            own_key(create=False)

    def test_an_encrypted_key_gets_its_own_sentence(self, config, monkeypatch, foreign):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", private_pem(foreign, b"password"))
        with pytest.raises(KeyUnavailable, match=r"is encrypted.*EIPACK_SIGNING_KEY"):
            own_key(create=True)

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ],
        ids=["P-384", "Ed25519", "RSA"],
    )
    def test_another_kind_of_key_gets_its_own_sentence(self, config, monkeypatch, key):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", private_pem(key))
        with pytest.raises(KeyUnavailable, match=r"P-256.*EIPACK_SIGNING_KEY"):
            own_key(create=True)

    def test_a_public_key_is_refused(self, config, monkeypatch, alice):
        monkeypatch.setenv("EIPACK_SIGNING_KEY", alice.public.pem)
        with pytest.raises(KeyUnavailable, match="holds no private key"):
            own_key(create=True)


class TestNothingSecretIsShown:
    def test_a_repr_shows_the_key_id_alone(self, alice):
        assert repr(alice) == f"SigningKey({alice.public.key_id!r})"

    def test_a_signing_key_cannot_be_pickled(self, alice):
        with pytest.raises(TypeError):
            pickle.dumps(alice)

    @pytest.mark.parametrize("damage", ["header", "cut", "letters", "encrypted"])
    def test_an_error_does_not_quote_the_variable(self, config, monkeypatch, foreign, damage):
        pem = private_pem(foreign, b"password" if damage == "encrypted" else None)
        secrets = secrets_of(pem)
        damaged = {
            "header": "".join(secrets),
            "cut": pem[:120] + "\n-----END PRIVATE KEY-----\n",
            "letters": pem.replace("M", "N"),
            "encrypted": pem,
        }[damage]
        monkeypatch.setenv("EIPACK_SIGNING_KEY", damaged)
        with pytest.raises(KeyUnavailable) as caught:
            own_key(create=True)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
        assert not any(part[:20] in shown for part in secrets_of(damaged) + secrets)
        assert caught.value.__context__ is None


class TestLowerS:
    def test_both_forms_of_a_signature_become_one(self, foreign):
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.utils import (
            decode_dss_signature,
            encode_dss_signature,
        )

        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        signature = foreign.sign(b"data", ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        assert lower_s(signature) == lower_s(encode_dss_signature(r, order - s))

    def test_its_answer_still_verifies(self, alice):
        assert all(alice.public.verify(b"x", alice.sign(b"x")) for _ in range(8))

    def test_what_is_out_of_range_is_refused(self):
        with pytest.raises(ValueError, match="range"):
            lower_s(bytes.fromhex("3006020100020101"))


def test_importing_is_light():
    code = (
        "import sys, eipack.trust; "
        "print({'torch', 'cryptography', 'platformdirs', 'model_signing'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_a_generated_key_differs_each_time():
    assert SigningKey.generate().public != SigningKey.generate().public
