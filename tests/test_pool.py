import pytest
import torch
from torch import nn

from eipack.errors import UnsupportedModel
from eipack.pool import Pool, on_cpu, storage_bytes, view_storage


def pooled(**tensors):
    pool = Pool()
    pool.add_model(tensors.items())
    return pool


def test_a_tensor_becomes_one_entry_of_its_own_name():
    pool = pooled(weight=torch.randn(2, 3))
    (entry,), (tensor,) = pool.entries, pool.tensors
    assert (entry.name, entry.dtype, entry.shape, entry.nbytes) == ("weight", "F32", (2, 3), 24)
    assert (tensor.entry, tensor.dtype, tensor.strides) == ("weight", "float32", (3, 1))


def test_ties_and_views_share_an_entry():
    base = torch.randn(4, 6)
    pool = pooled(base=base, tied=base, view=base.t()[1:3])
    assert [entry.name for entry in pool.entries] == ["base"]
    assert [tensor.entry for tensor in pool.tensors] == ["base"] * 3
    assert (pool.tensors[2].shape, pool.tensors[2].strides, pool.tensors[2].offset) == (
        (2, 4),
        (1, 6),
        1,
    )


def test_equal_bytes_share_an_entry_though_they_lie_apart():
    pool = pooled(a=torch.ones(8), b=torch.ones(8), c=torch.ones(2, 4))
    assert [entry.name for entry in pool.entries] == ["a"]


def test_bytes_of_another_length_do_not():
    pool = pooled(a=torch.zeros(8), b=torch.zeros(9))
    assert [entry.name for entry in pool.entries] == ["a", "b"]


def test_a_hint_that_is_taken_is_numbered():
    pool = Pool()
    names = [pool.add(torch.full((4,), float(n)), "same", user="p") for n in range(3)]
    assert names == ["same", "same~1", "same~2"]


def test_users_of_an_entry_are_known():
    pool = Pool()
    shared = torch.randn(4)
    pool.add_model([("w", shared)])
    pool.add(shared.clone(), "hint", user="onnx")
    assert pool.users == {"w": {"model", "onnx"}}


@pytest.mark.parametrize(
    ("tensor", "dtype", "shape"),
    [
        (torch.randn(3, 4).t(), "F32", (12,)),
        (torch.randn(10)[2:4], "F32", (10,)),
        (torch.randn(4, dtype=torch.complex128), "U8", (64,)),
        (torch.randn(4).to(torch.float8_e4m3fnuz), "U8", (4,)),
        (torch.randn(2).to(torch.bfloat16), "BF16", (2,)),
        (torch.tensor(3), "I64", ()),
        (torch.zeros(0, 3), "F32", (0, 3)),
    ],
    ids=["transposed", "a slice", "complex128", "float8_e4m3fnuz", "bfloat16", "0-dim", "empty"],
)
def test_an_entry_shows_what_safetensors_can_show(tensor, dtype, shape):
    (entry,) = pooled(w=tensor).entries
    assert (entry.dtype, entry.shape) == (dtype, shape)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.eye(3).to_sparse(), "sparse_coo"),
        (torch.empty(3, device="meta"), "meta tensor"),
        (nn.UninitializedParameter(), "UninitializedParameter"),
    ],
    ids=["sparse", "meta", "uninitialised"],
)
def test_a_tensor_without_plain_bytes_is_refused(tensor, words):
    with pytest.raises(UnsupportedModel, match=words):
        on_cpu(tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4).t()[1:],
        torch.tensor(2.0),
        torch.zeros(0, 2),
        torch.randn(1, 4).expand(3, 4),
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ],
    ids=["transposed", "0-dim", "empty", "expanded", "channels last"],
)
def test_a_view_of_its_storage_is_the_tensor_again(tensor):
    raw = storage_bytes(tensor)
    shape, strides = tuple(tensor.shape), tuple(tensor.stride())
    back = view_storage(raw, tensor.dtype, shape, strides, int(tensor.storage_offset()))
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((5,), (1,), 0), ((2,), (1,), 3), ((2,), (-1,), 1), ((2,), (1,), -1)],
)
def test_a_view_beyond_its_storage_is_refused(shape, strides, offset):
    with pytest.raises(UnsupportedModel, match="beyond its 16 bytes"):
        view_storage(storage_bytes(torch.randn(4)), torch.float32, shape, strides, offset)


def test_lazy_conjugation_is_done_before_bytes_are_taken():
    tensor = torch.randn(3, dtype=torch.complex64).conj()
    plain = on_cpu(tensor)
    assert not plain.is_conj()
    assert torch.equal(plain, tensor)
