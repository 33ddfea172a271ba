import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from blake3 import blake3

from eipack.archive import (
    CHUNK,
    Archive,
    Expected,
    Source,
    digest_bytes,
    digest_of_chunks,
    tensor_digest,
    tensor_digests,
    verify_tensors,
    write_archive,
)
from eipack.errors import DigestMismatch, MalformedPackage

SIZES = [0, 1, 5_000_000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3]


@pytest.fixture(scope="module")
def tensors():
    return [os.urandom(size) for size in SIZES]


@pytest.fixture
def path(tmp_path, tensors):
    path = tmp_path / "p"
    write_archive(path, [Source("w", sum(SIZES) + 100, lambda: [*tensors, bytes(100)])])
    return path


@pytest.fixture
def archive(path):
    with Archive.open(path) as archive:
        yield archive


@pytest.fixture
def expected(archive, tensors):
    offset, items = archive.members["w"].data_offset, []
    for number, tensor in enumerate(tensors):
        items.append(Expected(f"t{number}", offset, len(tensor), tensor_digest(tensor).chunks))
        offset += len(tensor)
    return items


def overwrite(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_member_has_the_plain_blake3_digest():
    # The empty input of https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors.
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_bytes(b"") == f"blake3:{empty}"
    assert digest_bytes(memoryview(b"abc")) == f"blake3:{blake3(b'abc').hexdigest()}"


@pytest.mark.parametrize("size", SIZES)
def test_a_tensor_has_the_digest_of_its_chunks_digests(size):
    data = os.urandom(size)
    chunks = [blake3(data[start : start + CHUNK]) for start in range(0, size, CHUNK)]
    digest, hexes = tensor_digest(data)
    assert hexes == tuple(chunk.hexdigest() for chunk in chunks)
    assert digest == f"blake3:{blake3(b''.join(c.digest() for c in chunks)).hexdigest()}"
    assert digest == digest_of_chunks(hexes)


def test_a_tensor_of_one_chunk_has_two_levels_all_the_same():
    assert tensor_digest(b"x").digest != digest_bytes(b"x")


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_many_tensors_keep_their_order(tensors, threads):
    assert tensor_digests(tensors, threads) == [tensor_digest(tensor) for tensor in tensors]


def test_arrays_of_any_shape_are_digested_as_their_bytes():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(12.0).reshape(3, 4)
    assert tensor_digest(array) == tensor_digest(array.tobytes())
    assert tensor_digest(numpy.empty((0, 4))) == tensor_digest(b"")


def test_there_may_be_no_tensors(archive):
    assert tensor_digests([]) == []
    verify_tensors(archive, [])


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_intact_tensors_pass(archive, expected, threads):
    verify_tensors(archive, expected, threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("number", [1, 3, 4, 6])
@pytest.mark.parametrize("at", [0, -1])
def test_a_byte_that_differs_is_traced_to_its_tensor(archive, expected, number, at, threads):
    path, item = Path(archive.path), expected[number]
    byte = item.offset + at % item.size
    overwrite(path, byte, bytes([path.read_bytes()[byte] ^ 1]))
    with pytest.raises(DigestMismatch, match=f"t{number} differs") as caught:
        verify_tensors(archive, expected, threads=threads)
    assert caught.value.label == f"t{number}"
    assert caught.value.path == archive.path


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_chunk_digests_is_refused(archive, expected, count):
    item = expected[5]
    item = Expected("t", item.offset, item.size, (item.chunks * 2)[:count])
    with pytest.raises(DigestMismatch, match=f"t has {count} chunk digests"):
        verify_tensors(archive, [item])


def test_gaps_that_are_zeros_pass(archive):
    verify_tensors(archive, [], zeros=[(archive.members["w"].end - 100, 100)])


@pytest.mark.parametrize("at", [1, 50, 100])
def test_a_gap_that_is_not_all_zeros_is_refused(archive, path, at):
    end = archive.members["w"].end
    overwrite(path, end - at, b"\1")
    with pytest.raises(DigestMismatch, match="padding"):
        verify_tensors(archive, [], zeros=[(end - 100, 100)])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_truncated_meanwhile_is_an_error_and_no_signal(archive, path, expected, threads):
    archive.mapping()
    os.truncate(path, archive.size // 2)
    with pytest.raises(MalformedPackage, match="truncated"):
        verify_tensors(archive, expected, threads=threads)


def test_a_failure_leaves_no_thread_behind(archive, path, expected):
    before = threading.active_count()
    overwrite(path, expected[2].offset, bytes(1000))
    with pytest.raises(DigestMismatch):
        verify_tensors(archive, expected, threads=4)
    assert threading.active_count() == before


def test_verifying_copies_no_tensor_into_memory(archive, expected):
    tracemalloc.start()
    try:
        verify_tensors(archive, expected, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < CHUNK // 2
