import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eipack.archive import Slot, lay_out
from eipack.archive.tensorfile import PAD_PREFIX
from eipack.errors import MalformedPackage

numpy = pytest.importorskip("numpy")
DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "u1", "BOOL": "?", "F16": "<f2"}

shapes = st.lists(st.integers(0, 7), max_size=3).map(tuple)
tensors = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9).filter(
        lambda name: not name.startswith(PAD_PREFIX) and name != "__metadata__"
    ),
    st.tuples(st.sampled_from(sorted(DTYPES)), shapes),
    max_size=6,
)


def arrays_of(described):
    return {
        name: (numpy.arange(math.prod(shape)) % 2).astype(DTYPES[dtype]).reshape(shape)
        for name, (dtype, shape) in described.items()
    }


def slot_of(name, array):
    names = {numpy.dtype(numpy_name): name for name, numpy_name in DTYPES.items()}
    return Slot(name, names[array.dtype], array.shape, array.nbytes)


def file_of(arrays):
    file = lay_out(slot_of(*pair) for pair in arrays.items())
    return file, b"".join(file.chunks(arrays.values()))


@settings(deadline=None)
@given(tensors)
def test_the_official_library_reads_equal_tensors(described):
    official = pytest.importorskip("safetensors.numpy")
    arrays = arrays_of(described)
    _, data = file_of(arrays)
    found = official.load(data)
    assert {name for name in found if not name.startswith(PAD_PREFIX)} == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert numpy.array_equal(found[name], array)


@settings(deadline=None)
@given(tensors)
def test_every_tensor_starts_at_a_multiple_of_64_bytes(described):
    arrays = arrays_of(described)
    file, data = file_of(arrays)
    assert len(data) == file.total_size
    for array, offset in zip(arrays.values(), file.offsets, strict=True):
        assert offset % 64 == 0
        assert data[offset : offset + array.nbytes] == array.tobytes()


def test_half_precision_and_8_bit_floats_are_read_by_the_official_library_for_torch():
    torch = pytest.importorskip("torch")
    official = pytest.importorskip("safetensors.torch")
    kinds = {"BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "C64": torch.complex64}
    tensors = {name: torch.arange(5).to(dtype) for name, dtype in kinds.items()}
    file = lay_out(Slot(name, name, (5,), tensors[name].nbytes) for name in kinds)
    chunks = (tensor.view(torch.uint8).numpy() for tensor in tensors.values())
    found = official.load(b"".join(file.chunks(chunks)))
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))


def test_gaps_are_zeros_that_belong_to_padding_entries():
    arrays = arrays_of({"a": ("F32", (3,)), "b": ("U8", (1,)), "c": ("F64", (8,))})
    file, data = file_of(arrays)
    start = len(file.header)
    assert file.gaps == ((start + 12, 52), (start + 65, 63))
    assert all(data[offset : offset + size] == bytes(size) for offset, size in file.gaps)
    entries = json.loads(file.header[8:])
    assert list(entries) == ["a", "__pad__.0", "b", "__pad__.1", "c"]
    assert entries["__pad__.1"] == {"dtype": "U8", "shape": [63], "data_offsets": [65, 128]}


def test_tensors_that_fill_whole_lines_need_no_padding():
    file, _ = file_of(arrays_of({"a": ("F32", (16,)), "b": ("F64", (0, 3)), "c": ("U8", (64,))}))
    assert file.gaps == ()


def test_the_header_says_its_own_length_and_ends_at_a_multiple_of_64():
    for length in range(1, 70):
        header = lay_out([Slot("n" * length, "U8", (1,), 1)]).header
        assert int.from_bytes(header[:8], "little") == len(header) - 8
        assert len(header) % 64 == 0


def test_a_file_may_hold_no_tensors():
    file = lay_out([])
    assert file.total_size == len(file.header) == 64
    assert file.header[8:].strip() == b"{}"


def test_equal_slots_give_equal_headers():
    slots = [Slot("b", "F32", (2,), 8), Slot("a", "F32", (), 4)]
    assert lay_out(slots) == lay_out(iter(slots))
    assert lay_out(slots).header != lay_out(reversed(slots)).header


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (Slot("__pad__.0", "U8", (1,), 1), "reserved"),
        (Slot("__pad__.weight", "U8", (1,), 1), "reserved"),
        (Slot("__metadata__", "U8", (1,), 1), "reserved"),
        (Slot("\udc80", "U8", (1,), 1), "not valid Unicode"),
        (Slot("x", "float32", (1,), 4), "dtype 'float32'"),
        (Slot("x", "F32", (2, 3), 20), r"F32 of shape \(2, 3\), which has not 20 bytes"),
        (Slot("x", "F4", (3,), 1), "has not 1 bytes"),
        (Slot("x", "F32", (-1, -1), 4), "negative"),
    ],
)
def test_a_slot_that_safetensors_could_not_hold_is_refused(slot, words):
    with pytest.raises(MalformedPackage, match=words):
        lay_out([slot])


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(MalformedPackage, match="same name 'x'"):
        lay_out([Slot("x", "U8", (1,), 1), Slot("x", "U8", (2,), 2)])


def test_a_tensor_that_does_not_fill_its_slot_is_refused():
    with pytest.raises(MalformedPackage, match="'x' has 3 bytes, not 4"):
        list(lay_out([Slot("x", "U8", (4,), 4)]).chunks([b"123"]))


@pytest.mark.parametrize("given", [[], [b"1", b"2"]])
def test_a_wrong_number_of_tensors_is_refused(given):
    with pytest.raises(ValueError, match="zip"):
        list(lay_out([Slot("x", "U8", (1,), 1)]).chunks(given))
