"""What was run, and how it came out, as JSON in the file that EIPACK_CONFORMANCE_JSON names.

The file is renewed after every check, so that it tells how far the run came if native
code takes the process down. The workers of pytest-xdist share it.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import uuid
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eipack.errors import BackendError
from eipack.registry import backend, owners
from eipack.target import Target

if TYPE_CHECKING:
    import pytest

VARIABLE = "EIPACK_CONFORMANCE_JSON"
_RUN = uuid.uuid4().hex
_WORST = ("not run", "passed", "skipped", "failed")


def record(request: pytest.FixtureRequest) -> None:
    """Begin to record the checks of a test's class, if a file was asked for."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    plugins = request.config.pluginmanager
    recorder = plugins.get_plugin(VARIABLE)
    if recorder is None:
        recorder = Recorder(Path(path).absolute())
        plugins.register(recorder, VARIABLE)
    recorder.watch(request)


class Recorder:
    """A plugin of pytest that writes down the outcome of every check of the kit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._classes: dict[type, dict[str, Any]] = {}
        self._checks: dict[str, tuple[type, dict[str, str]]] = {}

    def watch(self, request: pytest.FixtureRequest) -> None:
        """List every check of a class, none of them run yet."""
        kit = request.cls
        if kit in self._classes:
            return
        items = [item for item in request.session.items if getattr(item, "cls", None) is kit]
        self._classes[kit] = _header(kit)
        for item in items:
            check = {"name": item.name, "outcome": "not run", "detail": ""}
            self._checks[item.nodeid] = (kit, check)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome: the worst of set-up, call and teardown."""
        kit, check = self._checks.get(report.nodeid, (None, None))
        if kit is None or check is None or (report.when != "call" and report.passed):
            return
        if _WORST.index(report.outcome) > _WORST.index(check["outcome"]):
            check["outcome"] = report.outcome
            check["detail"] = _detail(report)
        self._write(kit)

    def _write(self, kit: type) -> None:
        header = self._classes[kit]
        own = [check for other, check in self._checks.values() if other is kit]
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", _RUN)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = _parsed(file.read())
            if known.get("run") != run:
                known = {"format": "eipack-conformance", "format_version": 1, "run": run}
            others = [b for b in known.get("backends", []) if b["class"] != header["class"]]
            before = [b for b in known.get("backends", []) if b["class"] == header["class"]]
            checks = _merged([check for b in before for check in b["checks"]], own)
            known["backends"] = [*others, {**header, "checks": checks}]
            file.seek(0)
            file.truncate()
            file.write(json.dumps(known, indent=1) + "\n")


def _parsed(text: str) -> dict[str, Any]:
    try:
        known = json.loads(text or "{}")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _merged(before: list[dict[str, str]], own: list[dict[str, str]]) -> list[dict[str, str]]:
    """Keep what another worker has run already."""
    checks = {check["name"]: check for check in (*before, *own) if check["outcome"] == "not run"}
    checks |= {check["name"]: check for check in (*before, *own) if check["outcome"] != "not run"}
    return list(checks.values())


def _header(kit: Any) -> dict[str, Any]:
    target = Target.parse(kit.target)
    distribution = owners(target.entry_point)[0]
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = None
    return {
        "class": f"{kit.__module__}.{kit.__qualname__}",
        "target": kit.target,
        "backend": {"name": _class_of(target), "distribution": distribution, "version": version},
        "supports": sorted(kit.supports),
        "environment": {
            "eipack": metadata.version("eipack"),
            "python": platform.python_version(),
            "torch": metadata.version("torch"),
        },
    }


def _class_of(target: Target) -> str | None:
    try:
        found = type(backend(target))
    except BackendError:
        return None
    return f"{found.__module__}.{found.__qualname__}"


def _detail(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    return "" if crash is None else str(crash.message)
