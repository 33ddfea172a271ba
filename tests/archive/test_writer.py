import errno
import os
import signal
import stat
import subprocess
import sys
from zlib import crc32

import pytest

from eipack.archive import Archive, Source, crc32_of, write_archive
from eipack.errors import MalformedPackage, PackageIOError

MIB = 1 << 20


def folder_of(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def big(name="big", size=20 * MIB):
    return Source.of_bytes(name, bytes(size))


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "model.eipack"
    write_archive(path, [Source.of_bytes("old", b"old")])
    return path


@pytest.fixture
def still_old(old):
    yield old
    assert folder_of(old) == ["model.eipack"]
    with Archive.open(old) as archive:
        assert archive.read("old") == b"old"


def failing(number, *, after=0):
    left = after

    def fail(*args, **kwargs):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    real = os.pwrite
    return fail


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "model.eipack"
    contents = {"manifest.json": b"{}", "a/b": os.urandom(9 * MIB), "a/c": b"", "d": b"\0"}
    layout = write_archive(path, [Source.of_bytes(*pair) for pair in contents.items()])
    with Archive.open(path) as archive:
        assert {name: archive.read(name) for name in archive.members} == contents
        assert archive.layout == layout
    assert path.stat().st_size == layout.total_size


def test_equal_sources_give_equal_files(tmp_path):
    for name in ("a", "b"):
        write_archive(tmp_path / name, [Source.of_bytes("x", b"1"), big()])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_chunks_are_streamed_one_after_the_other(tmp_path):
    taken = []

    def chunks():
        for number in range(3):
            taken.append(number)
            yield bytes([number]) * 1000

    write_archive(tmp_path / "p", [Source("s", 3000, chunks)])
    assert taken == [0, 1, 2]
    with Archive.open(tmp_path / "p") as archive:
        assert archive.read("s") == b"\0" * 1000 + b"\1" * 1000 + b"\2" * 1000


def test_any_contiguous_buffer_is_a_chunk(tmp_path):
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.arange(6, dtype="<f4").reshape(2, 3), numpy.empty((0, 3)), numpy.array(1.0)]
    write_archive(tmp_path / "p", [Source("s", 32, lambda: arrays)])
    with Archive.open(tmp_path / "p") as archive:
        assert archive.read("s") == arrays[0].tobytes() + arrays[2].tobytes()


@pytest.mark.parametrize(("given", "size"), [(b"123", 4), (b"12345", 4), (b"", 1), (b"1", 0)])
def test_chunks_that_do_not_add_up_to_the_size_are_refused(still_old, given, size):
    with pytest.raises(MalformedPackage, match="announced"):
        write_archive(still_old, [Source("s", size, lambda: [given]), big()])


def test_a_crc_that_a_source_carries_is_not_computed_again(tmp_path):
    calls = []
    source = Source("s", 1, lambda: calls.append(1) or [b"x"], crc32(b"x"))
    assert crc32_of(source) == crc32(b"x")
    assert calls == []
    write_archive(tmp_path / "p", [source])
    assert calls == [1]
    with Archive.open(tmp_path / "p") as archive:
        assert archive.read("s") == b"x"


def test_the_crc_of_a_source_is_that_of_all_its_chunks():
    assert crc32_of(Source("s", 6, lambda: [b"abc", b"", b"def"])) == crc32(b"abcdef")


def test_progress_counts_the_bytes_of_members(tmp_path):
    told = []
    write_archive(tmp_path / "p", [big("a"), Source.of_bytes("b", b"xyz")], progress=told.append)
    assert told == [8 * MIB, 16 * MIB, 20 * MIB, 20 * MIB + 3]


def test_no_umask_lets_others_write_to_a_package(tmp_path):
    before = os.umask(0o002)
    try:
        write_archive(tmp_path / "p", [])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o644


def test_the_umask_decides_who_may_read_a_package(tmp_path):
    before = os.umask(0o027)
    try:
        write_archive(tmp_path / "p", [])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o640


def test_a_symbolic_link_is_replaced_and_what_it_leads_to_stays(old):
    link = old.with_name("link")
    link.symlink_to(old)
    write_archive(link, [Source.of_bytes("new", b"new")])
    assert not link.is_symlink()
    with Archive.open(old) as archive:
        assert list(archive.members) == ["old"]


class TestWhenWritingFails:
    @pytest.mark.parametrize("after", [0, 1, 3, 4])
    @pytest.mark.parametrize(
        ("number", "words"),
        [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EIO, "input/output")],
    )
    def test_the_old_file_is_kept_and_the_reason_told(
        self, still_old, monkeypatch, number, words, after
    ):
        monkeypatch.setattr(os, "pwrite", failing(number, after=after))
        with pytest.raises(PackageIOError, match=words) as caught:
            write_archive(still_old, [big()])
        assert caught.value.path == str(still_old)
        assert caught.value.errno == number
        assert isinstance(caught.value, OSError)

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_also_in_the_last_steps(self, still_old, monkeypatch, call):
        monkeypatch.setattr(os, call, failing(errno.ENOSPC))
        with pytest.raises(PackageIOError, match="disk is full"):
            write_archive(still_old, [big()])

    @pytest.mark.parametrize(
        ("number", "words"), [(errno.EROFS, "read-only"), (errno.EACCES, "permission denied")]
    )
    def test_a_folder_that_takes_no_files_is_named(self, still_old, monkeypatch, number, words):
        # Root may write anywhere, so the refusal has to be played.
        monkeypatch.setattr(os, "open", failing(number))
        with pytest.raises(PackageIOError, match=rf"cannot write .*model\.eipack: .*{words}"):
            write_archive(still_old, [big()])

    def test_a_file_size_limit_is_met_in_words(self, still_old):
        code = f"""
import resource
from eipack.archive import *
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
write_archive({str(still_old)!r}, [Source.of_bytes("big", bytes(2 << 20))])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert b"larger than the file system or a limit allows" in done.stderr

    def test_a_short_write_is_continued(self, tmp_path, monkeypatch):
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
        write_archive(tmp_path / "p", [Source.of_bytes("x", bytes(range(256)) * 100)])
        with Archive.open(tmp_path / "p") as archive:
            assert archive.read("x") == bytes(range(256)) * 100

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
    def test_whatever_the_chunks_raise_comes_through(self, still_old, error):
        def chunks():
            yield bytes(MIB)
            raise error

        with pytest.raises(error):
            write_archive(still_old, [Source("x", 2 * MIB, chunks)])

    def test_ctrl_c_leaves_the_old_file_alone(self, still_old):
        code = f"""
import time
from eipack.archive import *
def chunks():
    for _ in range(1000):
        yield bytes(1 << 20)
        print("writing", flush=True)
        time.sleep(0.05)
write_archive({str(still_old)!r}, [Source("x", 1000 << 20, chunks)])
"""
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as writer:
            assert writer.stdout.readline() == b"writing\n"
            assert len(folder_of(still_old)) == 2
            writer.send_signal(signal.SIGINT)
            assert b"KeyboardInterrupt" in writer.communicate()[1]

    def test_a_missing_folder_is_an_error_in_words(self, tmp_path):
        with pytest.raises(PackageIOError, match="there is no such file or folder"):
            write_archive(tmp_path / "no" / "p", [])

    def test_a_file_in_the_place_of_a_folder_is_an_error_in_words(self, old):
        with pytest.raises(PackageIOError, match="not a directory"):
            write_archive(old / "p", [])

    def test_a_directory_is_not_replaced(self, tmp_path):
        with pytest.raises(PackageIOError, match="it is a directory"):
            write_archive(tmp_path, [])

    def test_a_device_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(PackageIOError, match="not a regular file"):
            write_archive(tmp_path / "fifo", [])

    def test_a_name_too_long_is_an_error_in_words(self, tmp_path):
        with pytest.raises(PackageIOError, match="name is too long"):
            write_archive(tmp_path / ("n" * 300), [])


class TestCopyingARegion:
    DATA = os.urandom(20 * MIB + 17)

    @pytest.fixture
    def source(self, tmp_path):
        path = tmp_path / "from"
        write_archive(path, [Source.of_bytes("x.safetensors", self.DATA)])
        with Archive.open(path) as archive:
            placed = archive.members["x.safetensors"]
            yield Source.of_region(
                "y", archive.fd, placed.data_offset, len(self.DATA), crc32=placed.member.crc32
            )

    def copied(self, path, source):
        told = []
        write_archive(path, [Source.of_bytes("a", b"a"), source], progress=told.append)
        assert told == sorted(told)
        assert told[-1] == len(self.DATA) + 1
        with Archive.open(path) as archive:
            return archive.read("y")

    def test_gives_equal_bytes(self, tmp_path, source):
        assert self.copied(tmp_path / "to", source) == self.DATA

    def test_is_left_to_the_kernel_when_the_crc_is_known(self, tmp_path, source, monkeypatch):
        monkeypatch.setattr(os, "pread", failing(errno.EIO))
        write_archive(tmp_path / "to", [source])

    def test_computes_a_crc_that_is_not_known(self, tmp_path, source):
        region = source.region
        source = Source.of_region("y", region.fd, region.offset, source.size)
        assert self.copied(tmp_path / "to", source) == self.DATA

    @pytest.mark.parametrize("after", [0, 1, 2])
    @pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_falls_back_to_reading_wherever_the_kernel_gives_up(
        self, tmp_path, source, monkeypatch, number, after
    ):
        real, calls = os.copy_file_range, []

        def copy(*args):
            calls.append(args)
            if len(calls) > after:
                raise OSError(number, "")
            return real(*args)

        monkeypatch.setattr(os, "copy_file_range", copy)
        assert self.copied(tmp_path / "to", source) == self.DATA

    def test_works_where_the_system_has_no_such_call(self, tmp_path, source, monkeypatch):
        monkeypatch.delattr(os, "copy_file_range")
        assert self.copied(tmp_path / "to", source) == self.DATA

    def test_tells_a_full_disk(self, tmp_path, source, monkeypatch):
        monkeypatch.setattr(os, "copy_file_range", failing(errno.ENOSPC))
        with pytest.raises(PackageIOError, match="disk is full"):
            write_archive(tmp_path / "to", [source])

    def test_refuses_a_file_that_became_shorter(self, tmp_path, source):
        path = tmp_path / "from"
        os.truncate(path, 5 * MIB)
        with pytest.raises(MalformedPackage, match="announced"):
            write_archive(tmp_path / "to", [source])
        assert not (tmp_path / "to").exists()


OFTEN = """
import sys
from eipack.archive import *
path, letter = sys.argv[1], sys.argv[2].encode()
for _ in range(40):
    write_archive(path, [Source.of_bytes(name, letter * 300_000) for name in ("x", "y")])
"""


def test_of_two_writers_one_wins_whole(tmp_path):
    path = tmp_path / "model.eipack"
    write_archive(path, [Source.of_bytes(name, b"a") for name in ("x", "y")])
    command = [sys.executable, "-W", "error", "-c", OFTEN, str(path)]
    writers = [subprocess.Popen([*command, letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        with Archive.open(path) as archive:
            assert archive.read("x") == archive.read("y")
            seen.add(archive.read("x")[:1])
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen == {b"a", b"b"}
    assert folder_of(path) == ["model.eipack"]
