import pytest
import torch

from eipack.errors import MalformedPackage
from eipack.package.samples import decode_samples, encode_samples
from eipack.signature import Signature, TensorSpec
from eipack.tree import TENSOR, Tree


def signature(*dtypes):
    specs = tuple(TensorSpec(f"x{n}", dtype, ()) for n, dtype in enumerate(dtypes))
    return Signature((), specs, (), Tree("dict"), TENSOR, 0)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3),
        torch.randn(3, 2).t(),
        torch.tensor(3),
        torch.zeros(0, 4, dtype=torch.float16),
        torch.tensor([True, False]),
        torch.randn(4).to(torch.float8_e4m3fn),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(3, dtype=torch.complex128),
        torch.arange(3).to(torch.uint16),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} {tensor.dtype}",
)
def test_a_sample_comes_back(tensor):
    data = encode_samples({"input.x0": tensor})
    (back,), _ = decode_samples(data, signature(str(tensor.dtype).removeprefix("torch.")))
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor) or tensor.dtype == torch.float8_e4m3fn
    assert back.shape == tensor.shape


def test_samples_that_are_one_tensor_are_stored_as_two():
    x = torch.randn(4)
    data = encode_samples({"input.x0": x, "input.x1": x})
    (one, two), _ = decode_samples(data, signature("float32", "float32"))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("data", "dtypes"),
    [
        (b"nonsense", ["float32"]),
        (encode_samples({"input.other": torch.ones(1)}), ["float32"]),
        (encode_samples({"input.x0": torch.ones(3)}), ["complex64"]),
    ],
    ids=["no safetensors", "another name", "no pairs"],
)
def test_samples_that_are_not_those_of_the_signature_are_refused(data, dtypes):
    with pytest.raises(MalformedPackage, match="samples cannot be read"):
        decode_samples(data, signature(*dtypes))
