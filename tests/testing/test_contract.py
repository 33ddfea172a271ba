"""What a third party declares, and what the kit writes down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eipack_toy import ToyBackend

from eipack import Device, Target
from eipack.errors import TargetSyntaxError
from eipack.testing import CAPABILITIES, BackendContract

Run = Callable[..., Any]


def test_without_pytest_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['pytest'] = None; import eipack.testing"

    done = subprocess.run(
        [sys.executable, "-c", code], check=False, stderr=subprocess.PIPE, text=True
    )

    assert "DependencyMissing: the conformance kit needs pytest: pip install pytest" in done.stderr


def test_an_unknown_capability_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'dynamic', which is no capability; known: bfloat16"):

        class TestToy(BackendContract):
            target = "toy"
            supports = frozenset({"dynamic"})


def test_capabilities_written_as_text_are_an_error() -> None:
    with pytest.raises(TypeError, match="write a set"):

        class TestToy(BackendContract):
            target = "toy"
            supports = "lstm"


def test_a_contract_without_a_target_is_an_error() -> None:
    with pytest.raises(TypeError, match="names no target"):

        class TestToy(BackendContract):
            pass


def test_a_target_that_does_not_parse_is_an_error() -> None:
    with pytest.raises(TargetSyntaxError):

        class TestToy(BackendContract):
            target = "Toy!"


def test_no_check_can_be_switched_off() -> None:
    with pytest.raises(TypeError, match="redefines test_closing_twice_does_nothing"):

        class TestToy(BackendContract):
            target = "toy"
            test_closing_twice_does_nothing = None


def test_capabilities_add_models_and_no_backend_runs_fewer_than_the_core() -> None:
    from eipack.testing.zoo import supported, unsupported

    core = {model.name for model in supported(())}

    assert len(core) > 15
    assert core < {model.name for model in supported({"lstm"})}
    assert unsupported(CAPABILITIES) == []


def test_a_model_beyond_the_capabilities_is_refused_or_answered_rightly(run: Run) -> None:
    class Careless(ToyBackend):
        """It drops what it cannot run, and goes on."""

        def load(self, reader, target, options):
            runner = super().load(reader, target, options)
            if any("lstm" in str(step) for step in runner._steps):
                return _Zeros(runner)
            return runner

    run(ToyBackend, "test_the_answer_is_the_models_own and lstm")
    found = run(Careless, "test_what_is_not_supported_is_refused", kit=MODEST)

    (message,) = found.failed.values()
    assert "lstm, though it is not supported" in message


class _Zeros:
    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.close = runner.close

    def __call__(self, *inputs):
        return [output.new_zeros(output.shape) for output in self._runner(*inputs)]


MODEST = """
from eipack.testing import BackendContract

class TestModest(BackendContract):
    target = "toy"
"""


def test_without_a_device_what_needs_one_is_skipped_and_the_rest_is_checked(run: Run) -> None:
    class Absent(ToyBackend):
        def devices(self):
            return []

    found = run(Absent, "test_devices or test_listed or ordinal or closing", kit=MODEST)

    assert found.failed == {}
    assert found.passed == {
        "test_an_unknown_ordinal_is_refused",
        "test_devices_can_be_listed",
        "test_listed_targets_are_its_own",
    }
    assert "test_closing_twice_does_nothing" in found.skipped


def test_what_was_run_is_written_as_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsound(ToyBackend):
        def devices(self):
            return [*super().devices(), Device(Target("toy", ordinal=2), "", healthy=False)]

    path = tmp_path / "reports" / "conformance.json"
    monkeypatch.setenv("EIPACK_CONFORMANCE_JSON", str(path))

    run(Unsound, "test_devices_can_be_listed or test_listed_targets", kit=MODEST)

    written = json.loads(path.read_text())
    (entry,) = written["backends"]
    assert written["format"] == "eipack-conformance"
    assert (entry["target"], entry["supports"]) == ("toy", [])
    assert entry["backend"]["distribution"] == "eipack-toy"
    assert entry["backend"]["version"] == "0.1.0"
    outcomes = {check["name"]: check["outcome"] for check in entry["checks"]}
    assert outcomes == {
        "test_devices_can_be_listed": "failed",
        "test_listed_targets_are_its_own": "passed",
    }
    assert "toy:2 has no name" in entry["checks"][0]["detail"] + entry["checks"][1]["detail"]


def test_a_run_replaces_what_an_earlier_one_wrote(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conformance.json"
    path.write_text('{"run": "earlier", "backends": [{"class": "old"}]}')
    monkeypatch.setenv("EIPACK_CONFORMANCE_JSON", str(path))

    run(ToyBackend, "test_devices_can_be_listed", kit=MODEST)

    assert "old" not in path.read_text()


def test_the_workers_of_one_run_write_one_list(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conformance.json"
    monkeypatch.setenv("EIPACK_CONFORMANCE_JSON", str(path))
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "one run")

    for check in ("test_devices_can_be_listed", "test_listed_targets_are_its_own"):
        run(ToyBackend, check, kit=MODEST)

    (entry,) = json.loads(path.read_text())["backends"]
    assert {check["outcome"] for check in entry["checks"]} == {"passed"}
    assert len(entry["checks"]) == 2
