"""The accelerator's packages on disk: sent in pieces, put together, the same to the last bit."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import torch
from eipack_eia.blobs import package_id
from eipack_eia.server import uploads
from eipack_eia.server.store import Missing, Offer, Store
from torch import nn

import eipack
from eipack.archive import digest_bytes
from eipack.errors import (
    AcceleratorFull,
    DigestMismatch,
    MalformedPackage,
    PackageIOError,
    ProtocolError,
    SigningInvalid,
    UntrustedPackage,
)
from eipack.manifest import Manifest
from eipack.package import Package
from eipack.trust import SigningKey, own_key, sign_manifest

PLENTY = 1 << 30
CHUNK = 8 << 20
WIDE = 1500  # 9 MB of weights, more than a chunk


class Wide(nn.Module):
    """The same weights under two graphs."""

    def __init__(self, *, twice: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(WIDE, WIDE)
        self.twice = twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.wide(x)
        return torch.relu(y) * 2 if self.twice else y


def export(folder: Path, name: str, *, twice: bool) -> Path:
    x = torch.linspace(-1, 1, WIDE)[None]
    package = eipack.export(
        Wide(twice=twice).eval(), inputs=(x,), programs=["torchscript"], name=name
    )
    return package.save(folder / f"{name}.eipack")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def first(folder: Path) -> Path:
    return export(folder, "first", twice=False)


@pytest.fixture(scope="module")
def second(folder: Path) -> Path:
    return export(folder, "second", twice=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home, PLENTY) as opened:
        yield opened


def begin(store: Store, path: Path) -> Offer:
    with Package.open(path) as package:
        return store.begin(package.manifest.to_json(), package.signings())


def content(path: Path, digest: str) -> bytes:
    with Package.open(path) as package:
        offset, size = package.spans()[digest]
        data = bytearray(size)
        package.read_into(offset, memoryview(data))
        return bytes(data)


def spans_of(path: Path) -> list[tuple[int, int]]:
    with Package.open(path) as package:
        return list(package.spans().values())


def send(store: Store, path: Path, missing: Missing) -> None:
    data = memoryview(content(path, missing.digest))
    for offset in range(missing.have, missing.size, CHUNK):
        store.append(missing.digest, offset, data[offset : offset + CHUNK])


def upload(store: Store, path: Path) -> Path:
    offer = begin(store, path)
    for missing in offer.missing:
        send(store, path, missing)
    return store.commit(offer.package)


def largest(offer: Offer) -> Missing:
    return max(offer.missing, key=lambda missing: missing.size)


def on_disk(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def test_the_file_is_rebuilt_to_the_last_bit(store: Store, first: Path) -> None:
    assert upload(store, first).read_bytes() == first.read_bytes()


def test_a_package_is_known_by_the_blake3_of_its_manifest(store: Store, first: Path) -> None:
    with Package.open(first) as package:
        expected = digest_bytes(package.manifest.to_json()).removeprefix("blake3:")
    assert begin(store, first).package == expected


def test_an_empty_store_misses_every_byte_that_has_a_digest(store: Store, first: Path) -> None:
    with Package.open(first) as package:
        spans = package.spans()
    offer = begin(store, first)
    assert {(m.digest, m.size, m.have) for m in offer.missing} == {
        (digest, size, 0) for digest, (_, size) in spans.items()
    }


def test_a_package_is_not_here_before_it_is_committed(store: Store, first: Path) -> None:
    offer = begin(store, first)
    for missing in offer.missing:
        send(store, first, missing)
    assert store.path(offer.package) is None
    committed = store.commit(offer.package)
    assert store.path(offer.package) == committed
    assert store.packages() == (offer.package,)


def test_committing_again_changes_nothing(store: Store, first: Path) -> None:
    path = upload(store, first)
    before = path.stat()
    assert store.commit(path.stem) == path
    assert path.stat() == before


def test_what_is_here_is_not_missing(store: Store, first: Path) -> None:
    upload(store, first)
    assert begin(store, first).missing == ()


def test_a_new_graph_on_known_weights_misses_the_graph_alone(
    store: Store, first: Path, second: Path
) -> None:
    upload(store, first)
    offer = begin(store, second)
    assert 0 < offer.bytes_to_send < 100_000
    assert upload(store, second).read_bytes() == second.read_bytes()


def test_a_package_that_gave_its_weights_can_leave_afterwards(
    store: Store, first: Path, second: Path
) -> None:
    source = upload(store, first).stem
    path = upload(store, second)
    store.discard(source)
    with Package.open(path) as package:
        package.verify()


def test_nothing_but_packages_is_left_after_commits(
    store: Store, home: Path, first: Path, second: Path
) -> None:
    paths = {upload(store, first), upload(store, second)}
    files = {path for path in home.rglob("*") if path.is_file()}
    assert files - {home / ".lock"} == paths
    assert store.used_bytes == on_disk(home)


def test_an_interrupted_blob_goes_on_where_it_was(store: Store, first: Path) -> None:
    blob = largest(begin(store, first))
    data = content(first, blob.digest)
    assert store.append(blob.digest, 0, data[:1000]) == 1000
    assert Missing(blob.digest, blob.size, 1000) in begin(store, first).missing
    assert store.append(blob.digest, 1000, data[1000:]) == blob.size
    assert blob.digest not in {missing.digest for missing in begin(store, first).missing}


@pytest.mark.parametrize("offset", [0, 999, 1001, -1, 1 << 70])
def test_a_wrong_offset_is_told_the_right_one(store: Store, first: Path, offset: int) -> None:
    blob = largest(begin(store, first))
    store.append(blob.digest, 0, bytes(1000))
    with pytest.raises(ProtocolError, match="1000 bytes here") as caught:
        store.append(blob.digest, offset, b"more")
    assert caught.value.data["have"] == 1000


def test_more_than_was_announced_is_refused(store: Store, first: Path) -> None:
    blob = begin(store, first).missing[0]
    with pytest.raises(ProtocolError, match="announced with") as caught:
        store.append(blob.digest, 0, bytes(blob.size + 1))
    assert caught.value.data["have"] == 0


def test_a_blob_that_is_another_than_announced_is_thrown_away(
    store: Store, home: Path, first: Path
) -> None:
    for blob in begin(store, first).missing:
        with pytest.raises(DigestMismatch, match=blob.digest):
            store.append(blob.digest, 0, bytes(blob.size))
    assert not list((home / "blobs").iterdir())
    assert upload(store, first).read_bytes() == first.read_bytes()
    assert store.used_bytes == on_disk(home)


def test_a_truncated_upload_cannot_be_committed(store: Store, first: Path) -> None:
    offer = begin(store, first)
    for missing in offer.missing[:-1]:
        send(store, first, missing)
    store.append(offer.missing[-1].digest, 0, content(first, offer.missing[-1].digest)[:-1])
    with pytest.raises(ProtocolError, match="begin again"):
        store.commit(offer.package)
    send(store, first, begin(store, first).missing[0])
    assert store.commit(offer.package).read_bytes() == first.read_bytes()


def test_a_digest_that_nobody_announced_is_refused(store: Store, first: Path) -> None:
    begin(store, first)
    with pytest.raises(ProtocolError, match="no package that was begun"):
        store.append("blake3:" + "0" * 64, 0, b"x")


@pytest.mark.parametrize(
    "digest",
    ["", "../../etc/passwd", "blake3:../" + "0" * 61, "blake3:" + "A" * 64, "blake3:/" + "0" * 63],
)
def test_a_hostile_digest_names_no_file(store: Store, home: Path, first: Path, digest: str) -> None:
    with Package.open(first) as package:
        manifest = package.manifest
    members = (attrs.evolve(manifest.members[0], digest=digest), *manifest.members[1:])
    data = attrs.evolve(manifest, members=members).to_json()
    before = set(home.rglob("*"))
    with pytest.raises(MalformedPackage, match="no digest"):
        store.begin(data, signed(data))
    with pytest.raises(ProtocolError):
        store.append(digest, 0, b"x")
    assert set(home.rglob("*")) == before


@pytest.mark.parametrize("package", ["", "..", "../store", "/etc/passwd", "0" * 64, "f" * 5000])
def test_a_hostile_package_id_names_no_file(store: Store, package: str) -> None:
    assert store.path(package) is None
    with pytest.raises(ProtocolError, match="begin it first"):
        store.commit(package)
    store.discard(package)


def signed(manifest: bytes) -> dict[str, bytes]:
    key = own_key(create=True)
    assert key is not None
    return {"signing/own.json": sign_manifest(manifest, key)}


Edit = Callable[[Manifest], Manifest]


def negative_size(manifest: Manifest) -> Manifest:
    grown = attrs.evolve(manifest.members[0], size=-5)
    return attrs.evolve(manifest, members=(grown, *manifest.members[1:]))


def larger_weights(manifest: Manifest) -> Manifest:
    *others, weights = manifest.members
    return attrs.evolve(manifest, members=(*others, attrs.evolve(weights, size=1 << 60)))


def wrong_chunks(manifest: Manifest) -> Manifest:
    entry = manifest.entries[0]
    wrong = attrs.evolve(entry, chunks=("0" * 64,) * len(entry.chunks))
    return attrs.evolve(manifest, entries=(wrong, *manifest.entries[1:]))


def one_digest_for_two(manifest: Manifest) -> Manifest:
    first, other, *rest = manifest.members
    twin = attrs.evolve(other, digest=first.digest)
    return attrs.evolve(manifest, members=(first, twin, *rest))


def name_that_leads_out(manifest: Manifest) -> Manifest:
    name = f"programs/{manifest.programs[0].id}/../../../x"
    extra = attrs.evolve(manifest.members[0], name=name)
    return attrs.evolve(manifest, members=(extra, *manifest.members))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (negative_size, "of -5 bytes"),
        (larger_weights, "another size than its entries"),
        (wrong_chunks, "contradict"),
        (one_digest_for_two, "two different blobs"),
        (name_that_leads_out, "leads out of the package"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    store: Store, home: Path, first: Path, edit: Edit, words: str
) -> None:
    with Package.open(first) as package:
        data = edit(package.manifest).to_json()
    with pytest.raises(MalformedPackage, match=words):
        store.begin(data, signed(data))
    assert store.used_bytes == on_disk(home) == 0


def test_what_is_no_manifest_is_refused(store: Store) -> None:
    with pytest.raises(MalformedPackage):
        store.begin(b"{}", {})


def test_a_manifest_whose_crc_lies_is_found_out_and_forgotten(
    store: Store, home: Path, first: Path
) -> None:
    with Package.open(first) as package:
        manifest = package.manifest
    lying = attrs.evolve(manifest.members[0], crc32=manifest.members[0].crc32 ^ 1)
    data = attrs.evolve(manifest, members=(lying, *manifest.members[1:])).to_json()
    offer = store.begin(data, signed(data))
    for missing in offer.missing:
        send(store, first, missing)
    with pytest.raises(MalformedPackage, match="contradicts its manifest"):
        store.commit(offer.package)
    assert store.used_bytes == on_disk(home) == 0


def test_a_signing_with_a_name_of_its_own_is_refused(store: Store, first: Path) -> None:
    with Package.open(first) as package:
        data, signings = package.manifest.to_json(), package.signings()
    with pytest.raises(MalformedPackage, match="name of a signing"):
        store.begin(data, {f"x{name}": text for name, text in signings.items()})


def test_a_signing_of_another_manifest_is_refused(store: Store, first: Path, second: Path) -> None:
    with Package.open(first) as package, Package.open(second) as other:
        with pytest.raises(SigningInvalid):
            store.begin(package.manifest.to_json(), other.signings())


def test_a_package_that_nobody_signed_is_refused(store: Store, first: Path) -> None:
    with Package.open(first) as package, pytest.raises(UntrustedPackage, match="not signed"):
        store.begin(package.manifest.to_json(), {})


def test_a_package_of_a_stranger_is_refused_before_it_is_sent(home: Path, first: Path) -> None:
    with Store(home, PLENTY, trust=SigningKey.generate().public) as store:
        with pytest.raises(UntrustedPackage, match="'first'"):
            begin(store, first)
        assert store.used_bytes == on_disk(home) == 0


def test_a_package_that_is_no_longer_trusted_is_not_kept(
    store: Store, home: Path, first: Path
) -> None:
    offer = begin(store, first)
    for missing in offer.missing:
        send(store, first, missing)
    store._trust = SigningKey.generate().public
    with pytest.raises(UntrustedPackage):
        store.commit(offer.package)
    assert store.path(offer.package) is None
    assert not list((home / "packages").iterdir())


def test_a_package_that_does_not_fit_is_refused_before_it_is_sent(home: Path, first: Path) -> None:
    limit = first.stat().st_size
    with Store(home, limit) as store:
        with pytest.raises(AcceleratorFull, match=str(limit)) as caught:
            begin(store, first)
        assert caught.value.data["needed_bytes"] > limit
        assert caught.value.data["free_bytes"] == limit
        assert store.used_bytes == on_disk(home) == 0


def test_the_limit_holds_while_bytes_come(store: Store, home: Path, first: Path) -> None:
    blob = largest(begin(store, first))
    store._space.limit_bytes = limit = store.used_bytes + 1000  # as if others had come meanwhile
    with pytest.raises(AcceleratorFull, match="needs 1001 more bytes, and 1000 of its") as caught:
        store.append(blob.digest, 0, bytes(1001))
    assert caught.value.data["limit_bytes"] == limit
    assert store.append(blob.digest, 0, bytes(1000)) == 1000
    assert on_disk(home) == limit


def test_the_limit_holds_for_what_is_put_together(store: Store, home: Path, first: Path) -> None:
    offer = begin(store, first)
    for missing in offer.missing:
        send(store, first, missing)
    store._space.limit_bytes = store.used_bytes + first.stat().st_size - 1
    with pytest.raises(AcceleratorFull):
        store.commit(offer.package)
    assert store.used_bytes == on_disk(home)
    store._space.limit_bytes += 1
    assert store.commit(offer.package).read_bytes() == first.read_bytes()


def test_discarding_gives_the_room_back(store: Store, home: Path, first: Path) -> None:
    path = upload(store, first)
    store.discard(path.stem)
    assert store.path(path.stem) is None
    assert store.used_bytes == on_disk(home) == 0
    assert len(begin(store, first).missing) > 1


def test_discarding_an_unfinished_upload_removes_its_blobs(
    store: Store, home: Path, first: Path
) -> None:
    offer = begin(store, first)
    send(store, first, offer.missing[0])
    store.append(offer.missing[1].digest, 0, b"part")
    store.discard(offer.package)
    assert store.used_bytes == on_disk(home) == 0


def test_a_blob_that_another_upload_waits_for_stays(
    store: Store, first: Path, second: Path
) -> None:
    mine, others = begin(store, first), begin(store, second)
    send(store, first, largest(mine))
    store.discard(mine.package)
    assert largest(others).digest not in {blob.digest for blob in begin(store, second).missing}


def test_abandoned_uploads_make_room(home: Path, first: Path, second: Path) -> None:
    with Store(home, 2 * first.stat().st_size + 100_000) as store:
        abandoned = begin(store, first)
        blob = abandoned.missing[0]
        send(store, first, blob)
        store._pending[abandoned.package].touched -= 4000
        store._space.limit_bytes = 2 * second.stat().st_size + 5_000
        assert upload(store, second).read_bytes() == second.read_bytes()
        assert abandoned.package not in store._pending


def test_one_digest_cannot_mean_two_things_to_two_uploads(store: Store, first: Path) -> None:
    with Package.open(first) as package:
        manifest = package.manifest
    liar = attrs.evolve(manifest.members[0], size=manifest.members[0].size + 1)
    data = attrs.evolve(manifest, members=(liar, *manifest.members[1:])).to_json()
    store.begin(data, signed(data))
    with pytest.raises(ProtocolError, match="something else"):
        begin(store, first)
    store.discard(package_id(data))
    assert upload(store, first).read_bytes() == first.read_bytes()


def test_two_threads_that_upload_one_package_both_end_well(
    store: Store, home: Path, first: Path
) -> None:
    start, ends = threading.Barrier(2, timeout=10), []

    def work() -> None:
        start.wait()
        while True:
            try:
                ends.append(upload(store, first).read_bytes())
            except ProtocolError:  # the other one was faster
                continue
            return

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert ends == [first.read_bytes()] * 2
    assert store.used_bytes == on_disk(home)


def test_a_new_store_goes_on_where_the_last_one_was(home: Path, first: Path, second: Path) -> None:
    with Store(home, PLENTY) as store:
        done = upload(store, second)
        blob = begin(store, first).missing[0]
        store.append(blob.digest, 0, content(first, blob.digest)[:7])
        used = store.used_bytes
    with Store(home, PLENTY) as store:
        assert store.used_bytes == used
        assert store.path(done.stem) == done
        assert store.append(blob.digest, 7, content(first, blob.digest)[7:]) == blob.size
        assert upload(store, first).read_bytes() == first.read_bytes()


def test_a_folder_is_one_store_s_at_a_time(store: Store, home: Path) -> None:
    with pytest.raises(PackageIOError, match="another accelerator"):
        Store(home, PLENTY)
    store.close()
    Store(home, PLENTY).close()


def test_what_is_not_the_store_s_is_left_alone(home: Path, first: Path) -> None:
    for folder in ("packages", "pending", "blobs"):
        (home / folder).mkdir(parents=True)
        (home / folder / "mine.eipack").write_bytes(b"keep")
    with Store(home, PLENTY) as store:
        store.discard(upload(store, first).stem)
    assert len(list(home.rglob("mine.eipack"))) == 3


@pytest.mark.parametrize("damage", [b"", b"garbage", b'{"manifest": "{}", "signings": {}}'])
def test_a_damaged_record_is_forgotten(home: Path, first: Path, damage: bytes) -> None:
    with Store(home, PLENTY) as store:
        offer = begin(store, first)
        send(store, first, offer.missing[0])
    (record,) = (home / "pending").iterdir()
    record.write_bytes(damage)
    with Store(home, PLENTY) as store:
        assert store.used_bytes == on_disk(home) == 0
        assert upload(store, first).read_bytes() == first.read_bytes()


def test_a_damaged_package_is_sent_again(home: Path, first: Path) -> None:
    with Store(home, PLENTY) as store:
        path = upload(store, first)
    path.write_bytes(path.read_bytes()[:-1])
    with Store(home, PLENTY) as store:
        assert store.path(path.stem) is None
        assert upload(store, first).read_bytes() == first.read_bytes()


def test_a_disk_that_spoils_what_others_build_on_is_found_out(
    store: Store, first: Path, second: Path
) -> None:
    path = upload(store, first)
    blob = max(spans_of(first), key=lambda span: span[1])
    with path.open("r+b") as file:
        file.seek(blob[0])
        file.write(b"spoiled!")
    with pytest.raises(ProtocolError, match="damaged"):
        upload(store, second)
    assert store.path(path.stem) is None
    assert upload(store, second).read_bytes() == second.read_bytes()


def test_a_blob_that_the_disk_spoiled_is_sent_again(store: Store, home: Path, first: Path) -> None:
    offer = begin(store, first)
    for missing in offer.missing:
        send(store, first, missing)
    whole = home / "blobs" / largest(offer).digest.removeprefix("blake3:")
    with whole.open("r+b") as file:
        file.write(b"spoiled!")
    with pytest.raises(ProtocolError, match="damaged"):
        store.commit(offer.package)
    assert upload(store, first).read_bytes() == first.read_bytes()
    assert store.used_bytes == on_disk(home)


def test_a_full_disk_is_a_typed_error_and_goes_on_later(
    store: Store, home: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = begin(store, first)

    def full(path: Path, offset: int, view: memoryview) -> None:
        with path.open("ab") as file:
            file.write(view[:5])
        raise OSError(28, "No space left on device")

    blob = largest(offer)
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_append", full)
        with pytest.raises(PackageIOError, match="disk is full"):
            store.append(blob.digest, 0, content(first, blob.digest)[:100])
    assert store.used_bytes == on_disk(home)
    assert upload(store, first).read_bytes() == first.read_bytes()


KILLED = """
import os, sys
from pathlib import Path
from eipack.package import Package
from eipack_eia.server import store as module, uploads

home, path, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = module.Store(home, 1 << 30)
package = Package.open(path)
die = lambda *_: os.kill(os.getpid(), 9)
if when == "verifying":
    module.Stored.verified = die
elif when == "hashing":
    uploads._is = die
elif when == "renamed":
    module.Store._forget = die
offer = store.begin(package.manifest.to_json(), package.signings())
spans = package.spans()
for blob in offer.missing:
    data = bytearray(blob.size)
    package.read_into(spans[blob.digest][0], memoryview(data))
    store.append(blob.digest, 0, data[: blob.size // 2])
    if when == "sending":
        die()
    store.append(blob.digest, blob.size // 2, data[blob.size // 2 :])
store.commit(offer.package)
"""


@pytest.mark.parametrize("when", ["sending", "hashing", "verifying", "renamed"])
def test_a_kill_leaves_nothing_half_and_loses_nothing(home: Path, first: Path, when: str) -> None:
    command = [sys.executable, "-c", KILLED, str(home), str(first), when]
    done = subprocess.run(command, timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Store(home, PLENTY) as store:
        offer = begin(store, first)
        lost = sum(blob.size for blob in offer.missing if blob.have == 0)
        total = sum(size for _, size in spans_of(first))
        assert store.used_bytes == on_disk(home)
        assert {"verifying": 0, "renamed": 0}.get(when, total) >= lost
        assert store.packages() == ((offer.package,) if when == "renamed" else ())
        assert upload(store, first).read_bytes() == first.read_bytes()
        assert store.used_bytes == on_disk(home)
