"""Whatever happens to a package file, nothing wrong is loaded and nothing half is left."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import eipack
from eipack.errors import (
    DigestMismatch,
    EipackError,
    MalformedPackage,
    PackageChanged,
    PackageError,
    PackageIOError,
    SigningInvalid,
    TrustError,
)
from eipack.manifest import WEIGHTS
from eipack.trust import own_key

REFUSALS = (PackageError, TrustError)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, shared_home):
    path = tmp_path_factory.mktemp("tiny") / "tiny.eipack"
    model = nn.Linear(2, 2).eval()
    return eipack.export(model, inputs=(torch.zeros(1, 2),), method="trace", name="t").save(path)


@pytest.fixture
def victim(tiny, tmp_path):
    return shutil.copy(tiny, tmp_path / "victim.eipack")


class Flipper:
    """Flip one bit of a file at a time, and put it back."""

    def __init__(self, path):
        self.path = path
        self.data = path.read_bytes()
        self.fd = os.open(path, os.O_RDWR)
        self.key = own_key(create=False).public

    def refused(self, place, bit):
        os.pwrite(self.fd, bytes([self.data[place] ^ 1 << bit]), place)
        try:
            eipack.verify(self.path, trust=self.key)
        except REFUSALS:
            return True
        finally:
            os.pwrite(self.fd, self.data[place : place + 1], place)
        return False

    def padding(self):
        """Give the zeros that align members: they are tried more sparsely."""
        with eipack.open(self.path) as package:
            placed = package._file.layout.placed
            starts = [one.header_offset + 30 + len(one.member.name) + 4 for one in placed]
            return [range(a, one.data_offset) for a, one in zip(starts, placed, strict=True)]


@pytest.fixture
def flipper(victim):
    one = Flipper(victim)
    yield one
    os.close(one.fd)


def test_every_bit_of_headers_directory_and_end_counts(flipper):
    with eipack.open(flipper.path) as package:
        layout = package._file.layout
    headers = [range(p.header_offset, p.header_offset + 34) for p in layout.placed]
    tail = range(layout.directory_offset, layout.total_size)
    places = [place for span in [*headers, tail] for place in span]
    kept = [(place, bit) for place in places for bit in range(8) if not flipper.refused(place, bit)]
    assert kept == []


def test_a_bit_of_every_byte_counts(flipper):
    dice = random.Random(0)
    padding = {place for span in flipper.padding() for place in span}
    places = [p for p in range(len(flipper.data)) if p not in padding or p % 64 == 0]
    assert [place for place in places if not flipper.refused(place, dice.randrange(8))] == []


def test_no_file_with_a_flipped_bit_is_loaded(flipper):
    dice = random.Random(1)
    for place in dice.sample(range(len(flipper.data)), 100):
        os.pwrite(flipper.fd, bytes([flipper.data[place] ^ 1 << dice.randrange(8)]), place)
        with pytest.raises(REFUSALS):
            eipack.load(flipper.path)
        os.pwrite(flipper.fd, flipper.data[place : place + 1], place)
    eipack.load(flipper.path).close()


def test_a_truncated_file_is_refused(victim):
    data = victim.read_bytes()
    for size in [*range(0, 200, 7), *range(200, len(data), 101), len(data) - 1]:
        victim.write_bytes(data[:size])
        with pytest.raises(MalformedPackage):
            eipack.load(victim)


@pytest.mark.parametrize("name", ["samples.safetensors", "programs/torchscript/graph.pt", WEIGHTS])
def test_a_member_that_was_exchanged_is_refused(path, rewrite, name):
    with eipack.open(path) as package:
        signings = package.signings()
        data = package._file.read(name)
    changed = bytes([*data[:-1], data[-1] ^ 1])
    other = rewrite(path, signings=signings, members={name: changed})
    with pytest.raises(MalformedPackage, match="is not as the manifest lists it"):
        eipack.open(other)


def test_a_change_of_weights_that_keeps_the_crc_is_refused(path):
    """Somebody who mends the CRC everywhere still has to face the digest."""
    from zlib import crc32

    with eipack.open(path) as package:
        placed = package._file.members[WEIGHTS]
        offset, size = placed.data_offset, placed.member.size
    data = bytearray(path.read_bytes())
    target = crc32(data[offset : offset + size])
    data[offset + size - 8] ^= 1
    body = bytes(data[offset : offset + size - 4])
    data[offset + size - 4 : offset + size] = _forge(crc32(body), target)
    assert crc32(bytes(data[offset : offset + size])) == target
    path.write_bytes(data)
    with pytest.raises(DigestMismatch):
        eipack.load(path)


def _forge(state, target):
    """Find four bytes that bring a CRC-32 from one state to another, bit by bit (it is linear)."""
    from zlib import crc32

    zero = crc32(bytes(4), state)
    columns = [crc32((1 << bit).to_bytes(4, "little"), state) ^ zero for bit in range(32)]
    rows = [(columns[bit], 1 << bit) for bit in range(32)]
    wanted, chosen = target ^ zero, 0
    for bit in reversed(range(32)):
        pivot = next((row for row in rows if row[0] >> bit & 1), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        rows = [(v ^ pivot[0], m ^ pivot[1]) if v >> bit & 1 else (v, m) for v, m in rows]
        if wanted >> bit & 1:
            wanted, chosen = wanted ^ pivot[0], chosen ^ pivot[1]
    return chosen.to_bytes(4, "little")


class TestAnOpenFile:
    def test_that_is_replaced_makes_no_difference(self, path, x, model, tmp_path):
        with eipack.load(path) as session:
            (tmp_path / "other").write_bytes(b"another file")
            (tmp_path / "other").replace(path)
            assert torch.equal(session(x), model(x).detach())

    def test_that_is_deleted_makes_no_difference(self, path, x, model):
        with eipack.load(path) as session:
            path.unlink()
            assert torch.equal(session(x), model(x).detach())

    @pytest.mark.parametrize("size", [0, 1000], ids=["to nothing", "to its beginning"])
    def test_that_is_truncated_is_noticed_before_it_is_touched(self, path, x, size):
        with eipack.load(path) as session:
            os.truncate(path, size)
            with pytest.raises(PackageChanged, match="was written to while it was open"):
                session(x)

    def test_that_is_written_to_in_place_is_noticed(self, path, x):
        with eipack.load(path) as session, path.open("r+b") as file:
            file.seek(-5000, os.SEEK_END)
            file.write(b"x")
            file.flush()
            with pytest.raises(PackageChanged):
                session(x)

    def test_that_was_written_to_before_it_is_loaded_is_refused(self, path):
        with eipack.open(path) as package:
            path.write_bytes(path.read_bytes())
            with pytest.raises(PackageChanged):
                eipack.load(package)

    def test_that_shrank_before_it_is_loaded_is_refused(self, path):
        with eipack.open(path) as package:
            os.truncate(path, 5000)
            with pytest.raises(PackageError):
                eipack.load(package)

    def test_that_was_written_to_is_not_saved(self, path, tmp_path):
        with eipack.open(path) as package:
            os.utime(path)
            with pytest.raises(PackageChanged):
                package.save(tmp_path / "copy.eipack")
        assert not (tmp_path / "copy.eipack").exists()


def test_a_full_disk_while_saving_leaves_what_was_there(path, tmp_path, monkeypatch):
    old = tmp_path / "old.eipack"
    old.write_bytes(b"what was there")

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    with eipack.open(path) as package:
        monkeypatch.setattr(os, "copy_file_range", full)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(PackageIOError, match="the disk is full"):
            package.save(old)
    assert old.read_bytes() == b"what was there"
    assert sorted(tmp_path.iterdir()) == sorted([old, path])


def test_a_folder_that_cannot_be_written_is_named_in_one_line(path):
    with eipack.open(path) as package, pytest.raises(PackageIOError) as caught:
        package.save("/proc/sys/kernel/x.eipack")
    assert str(caught.value).startswith("cannot write /proc/sys/kernel/x.eipack: ")
    assert "\n" not in str(caught.value)


SAVE = """
import sys, eipack
with eipack.open(sys.argv[1]) as package:
    for _ in range(int(sys.argv[3])):
        package.save(sys.argv[2])
        print("saved", flush=True)
"""


def test_of_two_processes_that_save_to_one_path_one_wins_whole(path, tmp_path):
    target = tmp_path / "target.eipack"
    command = [sys.executable, "-c", SAVE, str(path), str(target), "40"]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as one,
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as two,
    ):
        while one.poll() is None or two.poll() is None:
            if target.exists():
                eipack.verify(target)
            time.sleep(0.01)
    assert (one.returncode, two.returncode) == (0, 0)
    assert target.read_bytes() == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([target, path])


def test_ctrl_c_while_saving_leaves_a_whole_file_and_no_other(path, tmp_path):
    target = tmp_path / "target.eipack"
    command = [sys.executable, "-c", SAVE, str(path), str(target), "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as saving:
        saving.stdout.readline()
        time.sleep(0.05)
        saving.send_signal(signal.SIGINT)
        saving.stdout.close()
    assert saving.returncode != 0
    eipack.verify(target)
    assert sorted(tmp_path.iterdir()) == sorted([target, path])


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda data: data[:-1], MalformedPackage),
        (lambda data: data + b"\n", MalformedPackage),
        (lambda data: data.replace(b'"name":"small"', b'"name": "small"'), MalformedPackage),
        (lambda data: data.replace(b'"name":"small"', b'"name":"large"'), SigningInvalid),
        (lambda data: data.replace(b'"format":"eipack"', b'"format":"other"'), MalformedPackage),
    ],
    ids=["shorter", "longer", "respaced", "renamed", "of another format"],
)
def test_a_manifest_that_was_changed_is_refused(path, rewrite, spoil, error):
    with eipack.open(path) as package:
        data, signings = package.manifest.to_json(), package.signings()
    other = rewrite(path, manifest=spoil(data), signings=signings)
    with pytest.raises(error):
        eipack.load(other)


def test_every_refusal_is_one_line(path):
    path.write_bytes(b"PK\x03\x04 and nothing else")
    for act in (eipack.open, eipack.load, eipack.verify, eipack.sign):
        with pytest.raises(EipackError) as caught:
            act(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
