import gc
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import nn

import eipack
from eipack.errors import (
    MalformedPackage,
    PackageIOError,
    ProgramNotFound,
)
from eipack.package import verified
from eipack.package.assembly import Parts, write_package
from eipack.pool import Pool
from eipack.trust import own_key

READ_BYTES = """
import json, os, sys
pread, preadv = os.pread, os.preadv
counted = 0
def counting(call, size):
    def run(*args):
        global counted
        answer = call(*args)
        counted += size(answer)
        return answer
    return run
os.pread = counting(pread, len)
os.preadv = counting(preadv, int)
import eipack
package = eipack.open(sys.argv[1])
facts = [package.name, len(package.programs), len(package.signers()), len(package.manifest.tensors)]
eipack.diff(package, package)
print(json.dumps({"read": counted, "torch": "torch" in sys.modules, "facts": facts}))
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Package 20 MB of weights."""
    path = tmp_path_factory.mktemp("big") / "big.eipack"
    model = nn.Sequential(nn.Linear(1600, 1600), nn.Linear(1600, 1600)).eval()
    return eipack.export(model, inputs=(torch.zeros(1, 1600),), method="trace").save(path)


def test_opening_and_comparing_read_the_manifest_only_and_import_no_torch(big):
    done = subprocess.run(
        [sys.executable, "-c", READ_BYTES, str(big)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["facts"] == ["Sequential", 1, 1, 4]
    assert not told["torch"]
    assert big.stat().st_size > 20_000_000
    assert told["read"] < 20_000


def test_a_package_says_what_it_holds(path):
    with eipack.open(path) as package:
        assert (package.name, package.version) == ("small", "1.2")
        assert [program.id for program in package.programs] == ["torchscript", "exported", "onnx"]
        assert [str(spec) for spec in package.signature.inputs] == ["x: float32[2, 8]"]
        assert package.size == path.stat().st_size
        assert repr(package) == f"<Package 'small' [torchscript, exported, onnx] at {path}>"


def test_a_package_names_no_file_of_the_machine_that_made_it(path):
    data = path.read_bytes()
    for place in (Path(__file__).parent, Path(eipack.__file__).parent, Path(torch.__file__).parent):
        assert str(place).encode() not in data
    assert b'.py"' not in data


def test_a_program_is_found_by_id_by_kind_or_by_method(path):
    with eipack.open(path) as package:
        assert package.program("onnx").kind == "onnx"
        assert package.program("export") is package.programs[0]


def test_a_program_that_is_not_there_is_answered_with_those_that_are(path):
    with eipack.open(path) as package:
        with pytest.raises(ProgramNotFound, match="no program 'tvm'; it has torchscript, exported"):
            package.program("tvm")


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_a_loaded_program_answers_as_the_model_does(path, model, x, kind):
    with eipack.load(path, program=kind) as session:
        assert torch.equal(session(x), model(x).detach())


def test_samples_are_the_models_own_answers(path, model, x):
    with eipack.open(path) as package:
        (given,), (answer,) = package.samples()
    assert torch.equal(given, x)
    assert torch.equal(answer, model(x).detach())


def test_a_saved_copy_has_the_same_bytes(path, tmp_path):
    with eipack.open(path) as package:
        told = []
        copy = package.save(tmp_path / "copy.eipack", progress=told.append)
    assert copy.read_bytes() == path.read_bytes()
    assert told == sorted(told)
    assert told[-1] > 0


def test_a_package_can_be_saved_over_itself(path):
    before = path.read_bytes()
    with eipack.open(path) as package:
        package.save(path)
    assert path.read_bytes() == before


def test_assets_come_back_by_role(path, tmp_path):
    with eipack.open(path) as package:
        assert package.asset_files("labels") == {"labels.json": "labels.json"}
        assert json.loads(package.asset("labels.json")) == ["cat", "dog"]
        assert package.asset_files("tokenizer") == {}
        folder = package.unpack_asset("licence", tmp_path / "new" / "folder")
    assert (folder / "licence").read_bytes() == b"Do what you like."


def test_an_asset_that_is_not_there_is_refused(path):
    with eipack.open(path) as package, pytest.raises(MalformedPackage, match="no digest of"):
        package.asset("../manifest.json")


@pytest.mark.parametrize("kind", ["torchscript", "exported", "onnx"])
def test_extracting_leaves_one_standalone_file(path, tmp_path, kind):
    folder = tmp_path / "out"
    folder.mkdir()
    with eipack.open(path) as package:
        out = package.extract(kind, folder / "model.any")
    assert list(folder.iterdir()) == [out]
    assert out.stat().st_size > 4_000


def test_extracting_into_a_folder_that_is_not_there_is_refused_in_words(path, tmp_path):
    with eipack.open(path) as package:
        with pytest.raises(PackageIOError, match=r"cannot write .*model\.pt: No such file"):
            package.extract("torchscript", tmp_path / "none" / "model.pt")


def test_a_full_disk_while_extracting_leaves_what_was_there(path, tmp_path, monkeypatch):
    old = tmp_path / "model.pt"
    old.write_text("old")

    def full(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file data: file write failed")

    monkeypatch.setattr(torch.jit, "save", full)
    with eipack.open(path) as package, pytest.raises(PackageIOError, match="file write failed"):
        package.extract("torchscript", old)
    assert old.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == sorted([old, path])


def descriptors():
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return {str(link.readlink()) for link in links if link.is_symlink()}


class TestClosing:
    def test_a_closed_package_says_so(self, path):
        package = eipack.open(path)
        package.close()
        package.close()
        with pytest.raises(PackageIOError, match="is closed; open it again"):
            package.samples()
        assert package.name == "small"

    def test_sessions_outlive_their_package(self, path, model, x):
        with eipack.open(path) as package:
            session = eipack.load(package)
        assert torch.equal(session(x), model(x).detach())
        with pytest.raises(PackageIOError):
            eipack.load(package)

    def test_sessions_still_notice_a_change_after_their_package_is_closed(self, path, x):
        with eipack.open(path) as package:
            session = eipack.load(package)
        os.utime(path)
        with pytest.raises(eipack.EipackError, match="was written to"):
            session(x)

    def test_a_closed_session_and_package_hold_no_file(self, path, x):
        package = eipack.open(path)
        session = eipack.load(package)
        session(x)
        package.close()
        assert str(path) in descriptors()
        session.close()
        assert str(path) not in descriptors()

    def test_nothing_is_left_open(self, path, x):
        with eipack.open(path) as package, eipack.load(package) as session:
            session(x)
            assert str(path) in descriptors()
        del package, session
        gc.collect()
        assert str(path) not in descriptors()

    def test_an_unreferenced_export_deletes_its_file(self, model, x):
        package = eipack.export(model, inputs=(x,))
        folder = Path(package.path).parent
        assert folder.exists()
        gone = weakref.ref(package)
        del package
        gc.collect()
        assert gone() is None
        assert not folder.exists()

    def test_a_session_keeps_the_file_of_its_export(self, model, x):
        session = eipack.load(eipack.export(model, inputs=(x,)))
        gc.collect()
        assert torch.equal(session(x), model(x).detach())


class TestVerifyingOnce:
    def test_a_package_object_is_verified_once_for_all_its_sessions(self, path, monkeypatch):
        calls = []
        real = verified.verify_weights
        monkeypatch.setattr(
            "eipack.package.stored.verify_weights", lambda *args: calls.append(real(*args))
        )
        with eipack.open(path) as package:
            for kind in ("torchscript", "exported", "torchscript"):
                eipack.load(package, program=kind).close()
        assert len(calls) == 1

    def test_threads_that_load_at_once_share_one_mapping(self, path, monkeypatch):
        calls = []
        real = verified.verify_weights
        monkeypatch.setattr(
            "eipack.package.stored.verify_weights", lambda *args: calls.append(real(*args))
        )
        with eipack.open(path) as package:
            record = package.program("torchscript")
            readers = []
            threads = [
                threading.Thread(target=lambda: readers.append(package._read_program(record)))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len({id(reader.weights) for reader in readers}) == 1
        assert len(calls) == 1


def test_a_child_forked_while_a_thread_loads_can_load(path):
    held, done = threading.Event(), threading.Event()

    def load():
        with package._loading:
            held.set()
            done.wait()

    with eipack.open(path) as package:
        thread = threading.Thread(target=load)
        thread.start()
        held.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the thread is the point
            child = os.fork()
        if not child:
            signal.alarm(60)
            status = 1
            try:
                package.close()
                status = 0
            finally:
                os._exit(status)
        done.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
        package.check_digests()


def test_closing_waits_for_no_reader_and_harms_none(path, tmp_path):
    package = eipack.open(path)
    copy = package.save(tmp_path / "copy.eipack", progress=lambda _: package.close())
    assert copy.read_bytes() == path.read_bytes()
    with pytest.raises(PackageIOError, match="closed"):
        package.check_digests()


def test_a_signature_that_names_two_inputs_alike_is_never_written(path, tmp_path):
    with eipack.open(path) as package:
        twice = evolve(package.signature, inputs=package.signature.inputs * 2)
    parts = Parts("m", None, twice, (), {}, Pool(), {}, {}, (), ())
    with pytest.raises(MalformedPackage, match="twice among its inputs"):
        write_package(tmp_path / "made.eipack", parts, own_key(create=False))
    assert not (tmp_path / "made.eipack").exists()


def test_a_reader_outlives_its_package(path):
    with eipack.open(path) as package:
        reader = package._read_program(package.program("torchscript"))
    assert reader.member("graph.pt")


@pytest.mark.parametrize("program", ["torchscript", "exported"])
def test_an_ambient_device_makes_no_difference(path, model, x, program):
    with torch.device("meta"):
        session = eipack.load(path, program=program)
    with session:
        assert torch.equal(session(x), model(x).detach())


def test_weights_are_mapped_where_nobody_else_can_write_them(path, x):
    with eipack.load(path) as session:
        assert session.info.mapped


def test_weights_are_copied_where_somebody_else_could_write_them(path, model, x):
    path.chmod(0o666)
    with eipack.load(path) as session:
        assert not session.info.mapped
        path.write_bytes(bytes(path.stat().st_size))  # the copy was verified, and is what runs
        assert torch.equal(session(x), model(x).detach())
