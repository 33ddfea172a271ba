"""Which models of a slice are resident: memory, leases, names, and who has to leave."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread

import pytest
import torch
from attrs import frozen
from eipack_eia.server.models import Model, Models, bytes_of
from torch import nn

import eipack
from eipack.errors import (
    AcceleratorFull,
    AcceleratorOverloaded,
    DigestMismatch,
    PackageError,
    ProgramNotFound,
    UntrustedPackage,
)
from eipack.package import Package
from eipack.target import Target
from eipack.trust import SigningKey

CPU = Target("cpu")
X = torch.ones(1, 8)


@frozen
class Folder:
    """Packages as files of a folder; the id is a file's name without its suffix."""

    path_: Path

    def path(self, package: str) -> Path | None:
        path = self.path_ / f"{package}.eipack"
        return path if path.is_file() else None

    def packages(self) -> Sequence[str]:
        return sorted(path.stem for path in self.path_.glob("*.eipack"))


def export(folder: Path, package: str, name: str, *programs: str) -> None:
    model = nn.Linear(8, 8).eval()
    made = eipack.export(model, inputs=(X,), programs=programs or ["torchscript"], name=name)
    made.save(folder / f"{package}.eipack")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    found = tmp_path_factory.mktemp("packages")
    for package in ("aaaaaaaa1111", "bbbbbbbb2222", "cccccccc3333"):
        export(found, package, package[0])
    export(found, "dddddddd4444", "both", "torchscript", "exported")
    return found


Make = Callable[..., Models]


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Make the models of a slice with room for so many."""
    made: list[Models] = []

    def build(room: float | None = None, in_folder: Path = folder, **given: object) -> Models:
        limit = None if room is None else round(room * size_of(folder / "aaaaaaaa1111.eipack"))
        made.append(Models(Folder(in_folder), CPU, limit, **given))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for one in made:
        for model in one.resident():
            model.leases.clear()
        one.close()


def size_of(path: Path) -> int:
    """Return the bytes of a package's first program."""
    with Package.open(path) as package:
        return bytes_of(package, package.programs[0])


def a(models: Models, lease: str | None = None) -> Model:
    return models.open("aaaaaaaa1111", None, lease)


def b(models: Models, lease: str | None = None) -> Model:
    return models.open("bbbbbbbb2222", None, lease)


def c(models: Models, lease: str | None = None) -> Model:
    return models.open("cccccccc3333", None, lease)


def there(models: Models) -> list[str]:
    return sorted(model.name for model in models.resident())


def test_a_model_is_loaded_once_and_runs(make: Make) -> None:
    models = make()
    one = a(models)
    assert a(models) is one
    with one as session:
        assert session.run_flat(X)[0].shape == (1, 8)
    assert models.used_bytes == one.nbytes > 8 * 8 * 4


def test_the_model_that_was_used_least_recently_leaves_first(make: Make) -> None:
    models = make(2.5)
    a(models), b(models)
    models.find("a-aaaaaaaa")
    c(models)
    assert there(models) == ["a-aaaaaaaa", "c-cccccccc"]


def test_a_call_is_a_use_too(make: Make) -> None:
    models = make(2.5)
    one, _ = a(models), b(models)
    with one:
        pass
    c(models)
    assert there(models) == ["a-aaaaaaaa", "c-cccccccc"]


def test_as_many_leave_as_have_to(make: Make, folder: Path) -> None:
    models = make(2.5)
    a(models), b(models)
    models.memory_bytes = round(1.1 * size_of(folder / "aaaaaaaa1111.eipack"))
    c(models)
    assert there(models) == ["c-cccccccc"]


def test_a_model_that_has_left_runs_no_call_and_can_come_back(make: Make) -> None:
    models = make(1.5)
    one = a(models)
    b(models)
    with pytest.raises(ProgramNotFound, match="model 'a-aaaaaaaa' is not loaded any more; load it"):
        one.__enter__()
    assert one.session.closed
    with a(models) as session:
        session.run_flat(X)


def test_a_model_with_an_open_session_never_leaves(make: Make) -> None:
    models = make(1.5)
    a(models, "one"), a(models, "two")
    for _ in range(2):
        with pytest.raises(AcceleratorFull, match="the rest is of models with open sessions"):
            b(models)
        assert there(models) == ["a-aaaaaaaa"]
        models.release("one")
    assert models.release("two")
    b(models)
    assert there(models) == ["b-bbbbbbbb"]


def test_a_model_on_which_a_call_runs_never_leaves(make: Make) -> None:
    models = make(1.5)
    with a(models) as session:
        with pytest.raises(AcceleratorFull):
            b(models)
        session.run_flat(X)
    b(models)
    assert there(models) == ["b-bbbbbbbb"]


def test_nobody_leaves_for_a_model_that_does_not_fit_anyhow(make: Make, folder: Path) -> None:
    models = make(2.5)
    a(models, "lease"), b(models)
    models.memory_bytes = models.used_bytes - 1
    with pytest.raises(AcceleratorFull):
        c(models)
    assert there(models) == ["a-aaaaaaaa", "b-bbbbbbbb"]


def test_a_model_larger_than_the_slice_is_refused_with_both_numbers(
    make: Make, folder: Path
) -> None:
    models = make()
    models.memory_bytes = 100
    needed = size_of(folder / "aaaaaaaa1111.eipack")
    with pytest.raises(AcceleratorFull, match=f"needs {needed} bytes, and the slice has 100") as it:
        a(models)
    assert it.value.data == {"needed_bytes": needed, "slice_bytes": 100}
    assert there(models) == []


def test_a_model_in_use_is_not_unloaded(make: Make) -> None:
    models = make()
    one = a(models, "lease")
    with pytest.raises(AcceleratorOverloaded, match="'a-aaaaaaaa' is in use and stays loaded"):
        models.unload(one.name)
    models.release("lease")
    with one, pytest.raises(AcceleratorOverloaded):
        models.unload(one.name)
    models.unload(one.name)
    assert there(models) == []


def test_a_lease_ends_once(make: Make) -> None:
    models = make()
    a(models, "lease")
    assert [models.release("lease"), models.release("lease")] == [True, False]


def test_every_program_of_a_package_is_a_model_of_its_own(make: Make) -> None:
    models = make()
    names = ["both-dddddddd.exported", "both-dddddddd.torchscript"]
    assert [one.name for one in models.known() if one.package == "dddddddd4444"] == names
    made = [models.load(name) for name in names]
    assert [one.record.id for one in made] == ["exported", "torchscript"]
    outputs = []
    for one in made:
        with one as session:
            outputs.append(session.run_flat(X)[0])
    torch.testing.assert_close(*outputs)


def test_a_program_is_chosen_where_none_is_named(make: Make) -> None:
    models = make()
    chosen = models.open("dddddddd4444", None)
    assert models.open("dddddddd4444", chosen.record.id) is chosen


@pytest.mark.parametrize(
    ("given", "stem"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("a b/c?d=e#f%2F{name}", "a-b-c-d-e-f-2F-name"),
        ("line\r\nbreak", "line-break"),
        ("модель", "model"),
        ("...", "model"),
        ("x" * 200, "x" * 80),
        ("stats", "stats"),
    ],
    ids=ascii,
)
def test_a_name_becomes_one_plain_part_of_an_address(
    make: Make, tmp_path: Path, given: str, stem: str
) -> None:
    export(tmp_path, "0123456789ab", given)
    models = make(in_folder=tmp_path)
    [known] = models.known()
    assert known.name == f"{stem}-01234567"
    assert re.fullmatch(r"[A-Za-z0-9_-]+", known.name)
    assert models.load(known.name).name == known.name


def test_two_packages_of_one_name_are_two_models(make: Make, tmp_path: Path) -> None:
    export(tmp_path, "1111111100", "same")
    export(tmp_path, "2222222200", "same")
    models = make(in_folder=tmp_path)
    assert [one.name for one in models.known()] == ["same-11111111", "same-22222222"]


def test_a_package_that_comes_later_is_known_then(make: Make, tmp_path: Path) -> None:
    models = make(in_folder=tmp_path)
    assert models.known() == []
    export(tmp_path, "1111111100", "new")
    assert [one.name for one in models.known()] == ["new-11111111"]


def test_a_model_that_is_there_but_not_loaded_says_so(make: Make) -> None:
    models = make()
    with pytest.raises(ProgramNotFound, match="model 'a-aaaaaaaa' is not loaded; load it first"):
        models.find("a-aaaaaaaa")
    with pytest.raises(ProgramNotFound, match="there is no model 'z' here"):
        models.find("z")
    with pytest.raises(ProgramNotFound, match="there is no model 'z' here"):
        models.load("z")


def test_a_package_or_program_that_is_not_there_is_told(make: Make) -> None:
    models = make()
    with pytest.raises(ProgramNotFound, match="package eeee is not on this accelerator; upload it"):
        models.open("eeee", None)
    with pytest.raises(ProgramNotFound):
        models.open("aaaaaaaa1111", "onnx")
    assert there(models) == []


def test_a_package_that_nobody_trusted_has_signed_is_not_loaded(make: Make) -> None:
    models = make(trust=SigningKey.generate().public)
    with pytest.raises(UntrustedPackage):
        a(models)
    assert there(models) == []


def test_a_damaged_package_is_not_loaded(make: Make, tmp_path: Path) -> None:
    export(tmp_path, "1111111100", "damaged")
    path = tmp_path / "1111111100.eipack"
    data = bytearray(path.read_bytes())
    with Package.open(path) as package:
        start, _ = next(iter(package.spans().values()))
    data[start] ^= 1
    path.write_bytes(data)
    models = make(in_folder=tmp_path)
    with pytest.raises((DigestMismatch, PackageError)):
        models.open("1111111100", None)
    assert there(models) == []


def test_statistics_outlive_a_models_leaving(make: Make) -> None:
    models = make(1.5)
    a(models).statistics.count(1, 2, 3)
    b(models)
    found = a(models).statistics
    assert (found.inferences, found.queue_ns, found.compute_ns, found.transfer_ns) == (1, 1, 2, 3)


def test_many_who_open_a_package_at_once_get_one_model(make: Make) -> None:
    models = make()
    opened: list[Model] = []
    threads = [Thread(target=lambda name=name: opened.append(a(models, name))) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, opened))) == 1
    assert opened[0].leases == set("abcdef")


def test_when_it_closes_what_runs_is_left_alone(make: Make) -> None:
    models = make()
    one, other = a(models), b(models)
    with one as session:
        models.close()
        session.run_flat(X)
    assert other.session.closed
    assert there(models) == ["a-aaaaaaaa"]


def test_a_session_that_was_abandoned_keeps_no_model(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make(1.5)
    a(models, "killed")
    monkeypatch.setattr("eipack_eia.server.models.ABANDONED_S", 0.0)
    b(models)
    assert there(models) == ["b-bbbbbbbb"]
