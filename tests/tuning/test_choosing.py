"""`cpu+auto` and `auto` open what a record of this package on this machine says, or say why not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import eipack
from eipack.errors import BackendNotFound, DeviceNotFound, UntrustedPackage
from eipack.measuring.environment import manifest_digest
from eipack.target import Target
from eipack.tuning import NotTuned, Record, Row
from eipack.tuning.choosing import best
from eipack.tuning.machine import this_machine
from eipack.tuning.record import folder_of, keep


@pytest.fixture(autouse=True)
def _engines(engines: None, cache: Path) -> None:
    """Have the engines installed, and a folder of records that is empty."""


@pytest.fixture
def opened(fixed_package: Path) -> Iterator[eipack.Package]:
    with eipack.open(fixed_package) as package:
        yield package


def row(target: str, p50_ms: float, **more: Any) -> Row:
    figures = {"low_ms": p50_ms * 0.99, "high_ms": p50_ms * 1.01, "calls": 100}
    facts = {"program": "torchscript", "kind": "torchscript", "verdict": "measured"}
    return Row(target, p50_ms=p50_ms, **{**figures, **facts, **more})


PLAIN = row("cpu", 10.0, plain=True, threads=2)
QUICK = row("cpu+quick", 5.0, options={"mode": "any"})
ROUGH = row("cpu+rough", 2.0, precision="bfloat16", loss=4e-3)


def record(package: eipack.Package, *rows: Row, **more: Any) -> Record:
    names = {"cpu": Target("cpu")}
    devices = {name: _name(target) for name, target in names.items()}
    made = Record(
        schema_version=1,
        date="2026-11-01T00:00:00+00:00",
        package=package.name,
        package_digest=manifest_digest(package),
        target="cpu",
        objective="latency",
        precisions=("float32",),
        seconds=1.0,
        machine=this_machine(("cpu",), devices),
        winner=rows[0],
        rows=rows,
    )
    return evolve(made, **more).sealed()


def _name(target: Target) -> str:
    from eipack.registry import locate

    return locate(target)[0].find(target).name


def opens(package: eipack.Package, target: str = "cpu+auto", **asked: Any) -> tuple[str, str]:
    """Return where a session really runs, and in which precision, without a warning."""
    with eipack.load(package, target, **asked) as session:
        loss = session.info.loss
        return str(session.info.target), "float32" if loss is None else loss.precision


def test_the_winner_on_record_is_opened(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, PLAIN))
    assert opens(opened) == ("cpu+quick", "float32")
    assert opens(opened, "auto") == ("cpu+quick", "float32")


def test_a_path_is_opened_and_closed_with_its_session(fixed_package: Path) -> None:
    with eipack.open(fixed_package) as package:
        keep(record(package, QUICK, PLAIN))
    session = eipack.load(fixed_package, "cpu+auto")
    session.close()
    with pytest.raises(eipack.EipackError, match="is closed"):
        session.package.samples()


def test_float32_means_float32(opened: eipack.Package) -> None:
    keep(record(opened, ROUGH, QUICK, PLAIN, precisions=("float32", "bfloat16")))
    assert opens(opened) == ("cpu+quick", "float32")


def test_a_lower_precision_is_taken_if_the_load_allows_it(opened: eipack.Package) -> None:
    keep(record(opened, ROUGH, QUICK, PLAIN, precisions=("float32", "bfloat16")))
    assert opens(opened, precision="bfloat16") == ("cpu+rough", "bfloat16")


def test_a_precision_that_may_lose_more_than_the_load_allows_is_not_taken(
    opened: eipack.Package,
) -> None:
    keep(record(opened, ROUGH, PLAIN, precisions=("float32", "float16", "bfloat16")))
    assert opens(opened, precision="float16") == ("cpu", "float32")


def test_a_precision_that_was_never_tried_is_told(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, PLAIN))
    with pytest.warns(NotTuned, match="bfloat16 was not tried.*--precision bfloat16"):
        assert opens(opened, precision="bfloat16") == ("cpu+quick", "float32")


def test_a_number_of_threads_limits_the_choice(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, row("cpu", 8.0, threads=1), PLAIN))
    with eipack.load(opened, "cpu+auto", threads=1) as session:
        assert str(session.target) == "cpu"
        assert session.info.threads == 1


def test_a_program_limits_the_choice(opened: eipack.Package) -> None:
    keep(record(opened, evolve(QUICK, program="exported", kind="exported"), PLAIN))
    assert opens(opened, program="torchscript") == ("cpu", "float32")


def test_the_threads_of_the_winner_are_used(opened: eipack.Package) -> None:
    keep(record(opened, row("cpu", 4.0, threads=3), PLAIN))
    with eipack.load(opened, "cpu+auto") as session:
        assert session.info.threads == 3


def test_options_of_the_caller_go_before_those_on_record(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, PLAIN))
    assert opens(opened, options={"quick": {"mode": "mine"}}) == ("cpu+quick", "float32")
    with pytest.raises(ValueError, match="has no option 'speed'"):
        eipack.load(opened, "cpu+auto", options={"quick": {"speed": 1}})
    with pytest.raises(ValueError, match="names the engine 'warp'"):
        eipack.load(opened, "cpu+auto", options={"warp": {}})


@pytest.mark.parametrize("target", ["cpu+auto", "auto"])
def test_without_a_record_the_default_engine_runs_and_the_way_to_make_one_is_told_once(
    opened: eipack.Package, target: str
) -> None:
    place = "auto" if target == "auto" else "cpu"
    with pytest.warns(NotTuned) as told:
        assert opens(opened, target) == ("cpu", "float32")
    assert str(told[0].message) == (
        f"fixed is not tuned for {target}; cpu is used. "
        f"Tune it: eipack tune {opened.path} --target {place}"
    )
    assert opens(opened, target) == ("cpu", "float32")


def test_the_warning_points_at_the_line_that_loads(opened: eipack.Package) -> None:
    with pytest.warns(NotTuned) as told:
        eipack.load(opened, "cpu+auto").close()
    assert told[0].filename == __file__


def test_a_record_of_another_machine_is_told_and_not_used(opened: eipack.Package) -> None:
    made = record(opened, QUICK, PLAIN)
    keep(evolve(made, machine=evolve(made.machine, processor="Abacus", cores=64)).sealed())
    with pytest.warns(NotTuned, match=r"of another machine \(Abacus, 64 cores; this one is"):
        assert opens(opened) == ("cpu", "float32")


def test_a_record_of_other_versions_is_told_and_not_used(opened: eipack.Package) -> None:
    made = record(opened, QUICK, PLAIN)
    versions = {**made.machine.versions, "torch": "1.3.1"}
    keep(evolve(made, machine=evolve(made.machine, versions=versions)).sealed())
    with pytest.warns(NotTuned, match=r"of other versions \(torch 1.3.1; here is 2"):
        assert opens(opened) == ("cpu", "float32")


def test_a_record_without_an_engine_that_came_later_is_told_and_not_used(
    opened: eipack.Package,
) -> None:
    made = record(opened, QUICK, PLAIN)
    versions = {k: v for k, v in made.machine.versions.items() if k != "eipack-odd"}
    keep(evolve(made, machine=evolve(made.machine, versions=versions)).sealed())
    with pytest.warns(NotTuned, match=r"eipack-odd none; here is 1.0"):
        opens(opened)


def test_a_record_of_another_device_of_that_name_is_told_and_not_used(
    opened: eipack.Package,
) -> None:
    made = record(opened, QUICK, PLAIN)
    keep(evolve(made, machine=evolve(made.machine, devices={"cpu": "a larger one"})).sealed())
    with pytest.warns(NotTuned, match=r"of another cpu \(a larger one; this one is"):
        opens(opened)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"schema_version":2}'])
def test_a_damaged_record_is_told_and_not_used(opened: eipack.Package, damage: bytes) -> None:
    keep(record(opened, QUICK, PLAIN)).write_bytes(damage)
    with pytest.warns(NotTuned, match="the tuning record .* is damaged"):
        assert opens(opened) == ("cpu", "float32")


def test_a_changed_digit_in_a_record_is_noticed(opened: eipack.Package) -> None:
    path = keep(record(opened, QUICK, PLAIN))
    path.write_bytes(path.read_bytes().replace(b'"p50_ms":5.0', b'"p50_ms":4.0'))
    with pytest.warns(NotTuned, match="damaged .its digest is another one"):
        assert opens(opened) == ("cpu", "float32")


def test_a_record_that_others_can_write_is_told_and_not_used(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, PLAIN)).chmod(0o666)
    with pytest.warns(NotTuned, match="can be changed by others"):
        assert opens(opened) == ("cpu", "float32")


def test_a_folder_that_others_can_write_is_told_and_not_used(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, PLAIN))
    folder = folder_of(manifest_digest(opened))
    assert folder is not None
    folder.chmod(0o777)
    with pytest.warns(NotTuned, match="can be changed by others"):
        assert opens(opened) == ("cpu", "float32")


def test_a_record_of_another_package_is_none(opened: eipack.Package, package: Path) -> None:
    with eipack.open(package) as other:
        keep(record(other, QUICK, PLAIN))
    with pytest.warns(NotTuned):
        assert opens(opened) == ("cpu", "float32")


def test_the_latest_record_counts(opened: eipack.Package) -> None:
    keep(record(opened, QUICK, PLAIN))
    later = {"date": "2026-11-02T00:00:00+00:00", "objective": "throughput"}
    keep(record(opened, PLAIN, **later))
    assert opens(opened) == ("cpu", "float32")


def test_a_device_that_is_not_here_is_an_error(opened: eipack.Package) -> None:
    with pytest.warns(NotTuned), pytest.raises((DeviceNotFound, BackendNotFound)):
        eipack.load(opened, "toy+auto:7")


def test_records_come_before_no_check_of_trust(opened: eipack.Package, fresh_home: Path) -> None:
    keep(record(opened, QUICK, PLAIN))
    with pytest.raises(UntrustedPackage):
        eipack.load(opened, "cpu+auto")


def test_precisions_that_do_not_exist_are_refused(opened: eipack.Package) -> None:
    with pytest.raises(ValueError, match="precision is 'half'"):
        eipack.load(opened, "cpu+auto", precision="half")  # type: ignore[arg-type]


def test_auto_names_no_backend_of_its_own(opened: eipack.Package) -> None:
    with pytest.raises(BackendNotFound, match=r"'cpu\+auto' is chosen for a package"):
        eipack.registry.backend(Target.parse("cpu+auto"))


def test_plain_pytorch_is_best_where_nothing_is_clearly_faster() -> None:
    assert best([row("cpu+quick", 9.95), PLAIN]) is PLAIN
    assert best([QUICK, PLAIN]) is QUICK
    assert best([evolve(QUICK, verdict="slower"), PLAIN]) is PLAIN
    assert best([]) is None


def test_the_fastest_is_that_with_the_most_rows_for_its_time() -> None:
    large = row("cpu+quick", 8.0, batch=8)
    assert best([large, row("cpu+quick", 2.0), PLAIN]) is large


def test_a_record_reads_as_it_was_written(opened: eipack.Package) -> None:
    made = record(opened, QUICK, PLAIN)
    assert Record.from_json(made.to_json()) == made


def test_keeping_a_record_again_replaces_it(opened: eipack.Package) -> None:
    assert keep(record(opened, QUICK, PLAIN)) == keep(record(opened, PLAIN))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opens(opened) == ("cpu", "float32")
