"""Packages of every released format version load, and answer as they did when they were made."""

from pathlib import Path

import pytest
import torch

import eipack
from eipack.tree import flatten
from eipack.trust import PublicKey

CORPUS = Path(__file__).parent
PACKAGES = sorted(CORPUS.glob("format-*/*.eipack"))


def programs():
    for path in PACKAGES:
        with eipack.open(path) as package:
            for program in package.programs:
                yield pytest.param(
                    path, program.id, id=f"{path.parent.name} {path.stem} {program.id}"
                )


def key_of(path):
    return PublicKey.read(path.parent / "key.pem")


def test_the_corpus_is_whole_and_small():
    assert len([path for path in PACKAGES if path.parent.name == "format-1"]) == 5
    assert sum(path.stat().st_size for path in PACKAGES) < 200_000


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.stem)
def test_a_package_of_the_corpus_is_verified(path):
    assert eipack.verify(path, trust=key_of(path)) == key_of(path)
    with pytest.raises(eipack.EipackError, match="is not trusted here"):
        eipack.verify(path)


@pytest.mark.parametrize(("path", "program"), list(programs()))
def test_a_program_of_the_corpus_gives_the_recorded_outputs(path, program, tmp_path):
    with eipack.open(path) as package:
        inputs, outputs = package.samples()
        if package.program(program).kind == "onnx":
            found = run_onnx(package, path, tmp_path / "model.onnx", inputs)
        else:
            args, kwargs = package.signature.nest(inputs)
            with eipack.load(package, program=program, trust=key_of(path)) as session:
                found = flatten(package.signature.output_tree, session(*args, **kwargs))
    assert len(found) == len(outputs)
    for one, expected in zip(found, outputs, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)


def run_onnx(package, path, file, inputs):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(package.extract("onnx", file, trust=key_of(path)))
    names = [given.name for given in session.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feed)]


def test_ties_and_strides_of_the_corpus_are_told():
    with eipack.open(CORPUS / "format-1" / "torchscript-scripted-tied.eipack") as package:
        entries = {tensor.name: tensor.entry for tensor in package.manifest.tensors}
        assert entries["embed.weight"] == entries["head.weight"]
    with eipack.open(CORPUS / "format-1" / "exported-strided.eipack") as package:
        strides = {tensor.name: tensor.strides for tensor in package.manifest.tensors}
        assert strides["transposed"] == (1, 4)
        assert strides["conv.weight"] == (12, 1, 6, 3)


def test_assets_and_dimensions_of_the_corpus_are_read():
    with eipack.open(CORPUS / "format-1" / "all-kinds-dynamic.eipack") as package:
        assert package.asset("licence") == b"Public domain."
        assert [str(dim) for dim in package.signature.dims] == ["batch in 1..8"]
