import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eipack.archive import Archive, Source, write_archive
from eipack.errors import MalformedPackage, PackageChanged, PackageIOError

CONTENTS = {"manifest.json": b'{"format": 1}', "a/w.safetensors": os.urandom(5000), "z": b""}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.eipack"
    write_archive(path, [Source.of_bytes(*pair) for pair in CONTENTS.items()])
    return path


@pytest.fixture
def archive(path):
    with Archive.open(path) as archive:
        yield archive


def times_open(path):
    """Count this process's descriptors of a file; others come and go with the garbage."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(entry.readlink())
    return found.count(path)


def in_child_while_locked(lock, use):
    """Fork while another thread holds the lock, and give what `use` returns in the child."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            os.write(write, use())
        finally:
            os._exit(0)
    os.close(write)
    done.set()
    thread.join()
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()


def flip(path, bit):
    """Turn a bit of a file over; twice gives the old file."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


class TestOpening:
    def test_lists_the_members_in_their_order(self, archive):
        assert list(archive.members) == list(CONTENTS)
        assert archive.members["a/w.safetensors"].member.size == 5000

    def test_follows_a_symbolic_link(self, path):
        path.with_name("link").symlink_to(path)
        with Archive.open(path.with_name("link")) as archive:
            assert archive.read("manifest.json") == CONTENTS["manifest.json"]

    @pytest.mark.parametrize("kind", [str, Path])
    def test_takes_a_path_of_either_kind(self, path, kind):
        with Archive.open(kind(path)) as archive:
            assert archive.path == str(path)

    def test_of_a_missing_file_is_an_error_in_words(self, tmp_path):
        with pytest.raises(PackageIOError, match="there is no such file") as caught:
            Archive.open(tmp_path / "no")
        assert caught.value.path == str(tmp_path / "no")

    def test_of_a_directory_is_an_error_in_words(self, tmp_path):
        with pytest.raises(PackageIOError, match="it is a directory"):
            Archive.open(tmp_path)

    def test_of_a_pipe_is_refused_without_waiting_for_a_writer(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(PackageIOError, match="not a regular file"):
            Archive.open(tmp_path / "fifo")

    def test_leaves_no_file_open_when_it_fails(self, tmp_path):
        (tmp_path / "bad").write_bytes(b"no zip")
        for bad in (tmp_path, tmp_path / "bad"):
            with pytest.raises((MalformedPackage, PackageIOError)):
                Archive.open(bad)
            assert times_open(bad) == 0

    def test_does_not_hand_the_file_to_child_processes(self, archive):
        assert not os.get_inheritable(archive.fd)


class TestReading:
    def test_gives_whole_members(self, archive):
        assert {name: archive.read(name) for name in archive.members} == CONTENTS

    def test_of_an_unknown_member_is_an_error(self, archive):
        with pytest.raises(MalformedPackage, match="has no member 'b'"):
            archive.read("b")

    def test_stays_with_the_file_that_was_opened(self, archive, path):
        write_archive(path, [Source.of_bytes("other", b"")])
        assert archive.read("manifest.json") == CONTENTS["manifest.json"]

    def test_of_a_file_truncated_meanwhile_is_an_error(self, archive, path):
        os.truncate(path, archive.members["a/w.safetensors"].data_offset + 100)
        with pytest.raises(MalformedPackage, match="truncated while being read"):
            archive.read("a/w.safetensors")
        with pytest.raises(MalformedPackage, match="truncated while being read"):
            archive.pread_into(archive.size - 10, memoryview(bytearray(10)))
        with pytest.raises(MalformedPackage, match="truncated while being read"):
            archive.mapping()

    def test_continues_after_a_short_read(self, archive, monkeypatch):
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, size, at: real(fd, min(size, 7), at))
        assert archive.read("a/w.safetensors") == CONTENTS["a/w.safetensors"]

    def test_fills_a_view_from_any_offset(self, archive, path):
        buffer = bytearray(200)
        archive.pread_into(33, memoryview(buffer)[50:150])
        assert buffer == bytes(50) + path.read_bytes()[33:133] + bytes(50)


class TestMapping:
    def test_shows_the_whole_file(self, archive, path):
        assert archive.mapping()[:] == path.read_bytes()

    def test_is_made_once(self, archive):
        assert archive.mapping() is archive.mapping()

    def test_takes_writes_and_keeps_them_from_the_file(self, archive, path):
        before = path.read_bytes()
        archive.mapping()[0:4] = b"xxxx"
        assert archive.mapping()[0:4] == b"xxxx"
        assert path.read_bytes() == before
        assert archive.read("manifest.json") == CONTENTS["manifest.json"]

    def test_outlives_the_archive(self, path):
        with Archive.open(path) as archive:
            view = memoryview(archive.mapping())
        del archive
        gc.collect()
        assert bytes(view) == path.read_bytes()


class TestClosing:
    def test_is_idempotent(self, path):
        archive = Archive.open(path)
        archive.close()
        archive.close()

    def test_ends_reading(self, path):
        archive = Archive.open(path)
        archive.close()
        for use in (lambda: archive.read("z"), archive.mapping, archive.check_unchanged):
            with pytest.raises(PackageIOError, match="closed"):
                use()

    def test_happens_when_nothing_refers_to_the_archive(self, path):
        archive = Archive.open(path)
        assert times_open(path) == 1
        del archive
        gc.collect()
        assert times_open(path) == 0

    def test_leaves_duplicates_open(self, path):
        archive = Archive.open(path)
        with archive.duplicate() as other:
            archive.close()
            assert other.read("manifest.json") == CONTENTS["manifest.json"]
            with pytest.raises(PackageIOError, match="closed"):
                archive.duplicate()

    def test_is_possible_in_a_child_forked_while_a_thread_held_the_lock(self, archive):
        assert in_child_while_locked(archive._lock, lambda: archive.mapping()[:2]) == b"PK"


class TestOwner:
    @pytest.mark.parametrize(
        ("mode", "safe"), [(0o600, True), (0o644, True), (0o664, False), (0o646, False)]
    )
    def test_is_safe_if_nobody_else_can_write(self, archive, path, mode, safe):
        path.chmod(mode)
        assert archive.owner_is_safe() is safe

    def test_is_safe_if_it_is_root_or_this_user(self, archive, monkeypatch):
        found = os.fstat(archive.fd)

        def owned_by(uid):
            fields = list(found)
            fields[4] = uid
            monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result(fields))
            return archive.owner_is_safe()

        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert [owned_by(uid) for uid in (0, 1000, 1001)] == [True, True, False]


class TestChanges:
    def test_of_mode_name_and_links_are_innocent(self, archive, path):
        path.chmod(0o600)
        os.link(path, path.with_name("link"))
        path.rename(path.with_name("renamed"))
        archive.check_unchanged()

    def test_by_replacing_the_file_are_innocent(self, archive, path):
        write_archive(path, [])
        archive.check_unchanged()

    @pytest.mark.parametrize("change", [lambda path: flip(path, 99), lambda p: os.truncate(p, 99)])
    def test_in_place_are_found(self, path, change):
        # Without this the change could fall into the clock tick in which the file was made.
        os.utime(path, ns=(0, 0))
        with Archive.open(path) as archive:
            change(path)
            with pytest.raises(PackageChanged, match="was written to") as caught:
                archive.check_unchanged()
        assert caught.value.path == str(path)


names = st.from_regex(r"[a-c]{1,3}(/[d-f]{1,2}){0,2}(\.safetensors)?", fullmatch=True)
contents = st.dictionaries(names, st.binary(max_size=100), min_size=1, max_size=4)


def inside_members(archive, bit):
    spans = ((placed.data_offset, placed.end) for placed in archive.members.values())
    return any(start <= bit // 8 < end for start, end in spans)


def differs_from_crc(archive, name):
    try:
        archive.read(name)
    except MalformedPackage as error:
        return "CRC" in error.message
    return False


def check_flip(path, bit):
    """Flip a bit: outside members the file is refused, inside by the CRC of the one it hit."""
    with Archive.open(path) as archive:
        inside = inside_members(archive, bit)
    flip(path, bit)
    try:
        if not inside:
            with pytest.raises(MalformedPackage):
                Archive.open(path)
            return
        with Archive.open(path) as archive:
            assert sum(differs_from_crc(archive, name) for name in archive.members) == 1
    finally:
        flip(path, bit)


@settings(deadline=None, max_examples=200)
@given(contents, st.data())
def test_any_single_bit_flipped_is_refused(members, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p"
        try:
            write_archive(path, [Source.of_bytes(*pair) for pair in members.items()])
        except MalformedPackage:
            return
        size = path.stat().st_size
        for _ in range(20):
            check_flip(path, data.draw(st.integers(0, size * 8 - 1)))


def test_every_single_bit_of_a_small_package_counts(tmp_path):
    path = tmp_path / "p"
    write_archive(path, [Source.of_bytes("manifest.json", b"{}"), Source.of_bytes("a/b", b"x")])
    for bit in range(path.stat().st_size * 8):
        check_flip(path, bit)


def test_every_truncation_is_refused(path):
    data = path.read_bytes()
    cut = path.with_name("cut")
    for size in [*range(300), *range(len(data) - 300, len(data))]:
        cut.write_bytes(data[:size])
        with pytest.raises(MalformedPackage):
            Archive.open(cut)


def test_the_errors_of_a_package_survive_a_pipe_between_processes(path):
    code = f"""
import pickle
from eipack.archive import *
from eipack.errors import *
try:
    Archive.open({str(path.parent / "no")!r})
except PackageIOError as error:
    again = pickle.loads(pickle.dumps(error))
    print(again.reason, again.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"there is no such file or folder 2\n"
