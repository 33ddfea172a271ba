"""Signings: ours against the library's, and every way to tamper with one."""

import base64
import copy
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from eipack.errors import SigningInvalid, TrustError, UntrustedPackage
from eipack.trust import (
    canonical_signing,
    sign_manifest,
    signer_hint,
    verify_manifest,
)

MANIFEST = b'{"format": 1, "digests": {"weights.safetensors": "\xe2\x80\xa6"}}\n'
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def signing(alice):
    return sign_manifest(MANIFEST, alice)


def compact(document):
    return json.dumps(document, separators=(",", ":")).encode()


def statement_of(signing):
    return json.loads(base64.b64decode(json.loads(signing)["dsseEnvelope"]["payload"]))


def signed_anew(key, payload):
    """A bundle by `key` with a true signature over any payload."""
    document = json.loads(sign_manifest(MANIFEST, key))
    kind = "application/vnd.in-toto+json"
    head = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode()
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    signature = base64.b64encode(key.sign(head + payload)).decode()
    document["dsseEnvelope"]["signatures"][0]["sig"] = signature
    return compact(document)


class TestVerify:
    def test_it_names_the_key_that_signed(self, signing, alice, bob):
        assert verify_manifest(MANIFEST, signing, [bob.public, alice.public]) == alice.public

    def test_an_empty_manifest_is_signed_as_any_other(self, alice):
        signing = sign_manifest(b"", alice)
        assert verify_manifest(b"", signing, [alice.public]) == alice.public

    def test_another_manifest_is_refused(self, signing, alice):
        with pytest.raises(SigningInvalid, match=r"not this manifest\.json"):
            verify_manifest(MANIFEST + b" ", signing, [alice.public])

    def test_another_manifest_is_refused_even_from_a_stranger(self, signing):
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST + b" ", signing, [])

    def test_a_stranger_is_named_by_the_hint(self, signing, alice, bob):
        with pytest.raises(UntrustedPackage, match="eipack trust add") as caught:
            verify_manifest(MANIFEST, signing, [bob.public])
        assert caught.value.key_id == alice.public.hint

    def test_nobody_is_trusted_by_an_empty_list(self, signing):
        with pytest.raises(UntrustedPackage):
            verify_manifest(MANIFEST, signing, [])

    def test_a_stranger_cannot_borrow_a_trusted_hint(self, alice, bob):
        document = json.loads(sign_manifest(MANIFEST, bob))
        document["verificationMaterial"]["publicKey"]["hint"] = alice.public.hint
        with pytest.raises(SigningInvalid, match="signature is not by"):
            verify_manifest(MANIFEST, compact(document), [alice.public, bob.public])


class TestTampering:
    def test_no_bit_of_a_signing_changes_unnoticed(self, signing, alice):
        for position in range(len(signing)):
            for bit in range(8):
                changed = bytearray(signing)
                changed[position] ^= 1 << bit
                with pytest.raises(TrustError):
                    verify_manifest(MANIFEST, bytes(changed), [alice.public])

    def test_no_byte_can_be_left_out_or_doubled(self, signing, alice):
        for position in range(len(signing)):
            without = signing[:position] + signing[position + 1 :]
            doubled = signing[: position + 1] + signing[position:]
            for changed in (without, doubled):
                if changed != signing:
                    with pytest.raises(TrustError):
                        verify_manifest(MANIFEST, changed, [alice.public])

    @pytest.mark.parametrize(
        "text", [b"", b"{}", b"[]", b"null", b"1", b'"x"', b"\xff", b"[" * 60000]
    )
    def test_what_is_no_bundle_is_refused(self, text, alice):
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, text, [alice.public])

    def test_an_oversized_signing_is_refused(self, signing, alice):
        with pytest.raises(SigningInvalid, match="larger"):
            verify_manifest(MANIFEST, signing + b" " * 65536, [alice.public])

    def test_the_other_form_of_the_signature_is_refused(self, signing, alice):
        document = json.loads(signing)
        place = document["dsseEnvelope"]["signatures"][0]
        r, s = decode_dss_signature(base64.b64decode(place["sig"]))
        place["sig"] = base64.b64encode(encode_dss_signature(r, ORDER - s)).decode()
        with pytest.raises(SigningInvalid, match="canonical"):
            verify_manifest(MANIFEST, compact(document), [alice.public])
        assert canonical_signing(compact(document)) == signing

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (["mediaType"], "application/vnd.dev.sigstore.bundle.v0.2+json"),
            (["extra"], "x"),
            (["verificationMaterial", "publicKey", "hint"], ""),
            (["verificationMaterial", "publicKey", "hint"], None),
            (["verificationMaterial", "publicKey", "hint"], ["a"]),
            (["verificationMaterial", "publicKey", "rawBytes"], "AAAA"),
            (["verificationMaterial", "publicKey"], {}),
            (["verificationMaterial", "certificate"], {"rawBytes": "AAAA"}),
            (["verificationMaterial", "tlogEntries"], [{}]),
            (["verificationMaterial"], []),
            (["dsseEnvelope", "payloadType"], "text/plain"),
            (["dsseEnvelope", "payload"], "not base64!"),
            (["dsseEnvelope", "payload"], ""),
            (["dsseEnvelope", "payload"], 1),
            (["dsseEnvelope", "signatures"], []),
            (["dsseEnvelope", "signatures"], [{"sig": "", "keyid": ""}]),
            (["dsseEnvelope", "signatures", 0, "sig"], "AAAA"),
            (["dsseEnvelope", "signatures", 0, "sig"], None),
            (["dsseEnvelope", "signatures", 0, "keyid"], "x"),
            (["dsseEnvelope", "signatures", 0, "extra"], "x"),
        ],
        ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else None,
    )
    def test_a_changed_field_of_the_bundle_is_refused(self, signing, alice, path, value):
        document = json.loads(signing)
        place = document
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, compact(document), [alice.public])
        if path != ["dsseEnvelope", "payload"] or value != "":
            with pytest.raises(SigningInvalid):
                canonical_signing(compact(document))

    def test_two_signatures_in_one_bundle_are_refused(self, signing, alice):
        document = json.loads(signing)
        document["dsseEnvelope"]["signatures"] *= 2
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, compact(document), [alice.public])

    def test_a_name_given_twice_is_refused(self, signing, alice):
        twice = signing.replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"', 1)
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, twice, [alice.public])
        with pytest.raises(SigningInvalid, match="not JSON as the format has it"):
            canonical_signing(twice)


class TestStatements:
    """What a trusted key signed must still be about this manifest, and only it."""

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (["_type"], "https://in-toto.io/Statement/v0.1"),
            (["extra"], "x"),
            (["predicateType"], "https://model_signing/Digests/v0.1"),
            (["predicateType"], "https://slsa.dev/provenance/v1"),
            (["subject"], []),
            (["subject"], [{"name": "a", "digest": {"sha256": "00"}}] * 2),
            (["subject", 0, "name"], ["x"]),
            (["subject", 0, "name"], "x" * 256),
            (["subject", 0, "digest", "sha256"], "00" * 32),
            (["subject", 0, "digest", "sha512"], "00" * 64),
            (["predicate"], []),
            (["predicate", "extra"], "x"),
            (["predicate", "resources"], []),
            (["predicate", "resources", 0, "name"], "other.json"),
            (["predicate", "resources", 0, "algorithm"], "blake2b"),
            (["predicate", "resources", 0, "digest"], "00" * 32),
            (["predicate", "resources", 0, "extra"], "x"),
            (["predicate", "serialization"], "allow_symlinks"),
            (["predicate", "serialization", "method"], "shards"),
            (["predicate", "serialization", "hash_type"], "blake2b"),
            (["predicate", "serialization", "shard_size"], 1000),
            (["predicate", "serialization", "allow_symlinks"], None),
            (["predicate", "serialization", "allow_symlinks"], "false"),
            (["predicate", "serialization", "ignore_paths"], ".git"),
            (["predicate", "serialization", "ignore_paths"], [1]),
            (["predicate", "serialization", "ignore_paths"], ["manifest.json"]),
            (["predicate", "serialization", "ignore_paths"], ["./manifest.json"]),
            (["predicate", "serialization", "ignore_paths"], [".git", "."]),
            (["predicate", "serialization", "ignore_paths"], [""]),
            (["predicate", "serialization", "ignore_paths"], ["a/../manifest.json"]),
            (["predicate", "serialization", "ignore_paths"], ["/"]),
        ],
        ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else None,
    )
    def test_any_other_statement_is_refused(self, signing, alice, path, value):
        statement = statement_of(signing)
        place = statement
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        bundle = signed_anew(alice, json.dumps(statement).encode())
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, bundle, [alice.public])

    def test_a_second_file_is_refused(self, signing, alice):
        statement = statement_of(signing)
        resources = statement["predicate"]["resources"]
        resources.append(copy.deepcopy(resources[0]) | {"name": "other.json"})
        both = b"".join(bytes.fromhex(resource["digest"]) for resource in resources)
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(both).hexdigest()
        bundle = signed_anew(alice, json.dumps(statement).encode())
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, bundle, [alice.public])

    def test_a_name_given_twice_is_refused(self, signing, alice):
        text = json.dumps(statement_of(signing)).encode()
        twice = text.replace(b'{"_type"', b'{"_type": "x", "_type"', 1)
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, signed_anew(alice, twice), [alice.public])

    @pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff\xfe", b"nul", b"[" * 20000])
    def test_what_is_no_statement_is_refused(self, alice, payload):
        with pytest.raises(SigningInvalid):
            verify_manifest(MANIFEST, signed_anew(alice, payload), [alice.public])

    def test_other_ignored_files_do_not_matter(self, signing, alice):
        statement = statement_of(signing)
        statement["predicate"]["serialization"]["ignore_paths"] = [".git", "weights.safetensors"]
        bundle = signed_anew(alice, json.dumps(statement).encode())
        assert verify_manifest(MANIFEST, bundle, [alice.public]) == alice.public


class TestHint:
    def test_it_is_read_without_verifying(self, signing, alice):
        assert signer_hint(signing) == alice.public.hint

    def test_there_is_none_in_what_is_no_signing(self):
        assert signer_hint(b"{}") is None


class TestCanonicalForm:
    def test_ours_is_canonical(self, signing):
        assert canonical_signing(signing) == signing

    def test_spaces_order_and_what_may_be_left_out_are_made_uniform(self, signing):
        document = json.loads(signing)
        del document["verificationMaterial"]["tlogEntries"]
        del document["dsseEnvelope"]["signatures"][0]["keyid"]
        turned = dict(reversed(document.items()))
        assert canonical_signing(json.dumps(turned, indent=3).encode()) == signing

    def test_another_spelling_does_not_verify(self, signing, alice):
        with pytest.raises(SigningInvalid, match="canonical"):
            verify_manifest(MANIFEST, signing + b"\n", [alice.public])
