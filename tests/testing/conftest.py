from __future__ import annotations

from collections.abc import Callable, Iterator
from zlib import crc32

import pytest
from attrs import field, frozen
from eipack_toy import ToyBackend

from eipack import Backend, registry
from eipack.testing import CAPABILITIES

KIT = f"""
from eipack.testing import BackendContract

class TestToy(BackendContract):
    target = "toy"
    supports = {sorted(set(CAPABILITIES) - {"complex64", "small_integers"})}
"""


@frozen
class Outcomes:
    """What became of each check; a plugin of pytest while they run."""

    passed: set[str] = field(factory=set)
    skipped: set[str] = field(factory=set)
    failed: dict[str, str] = field(factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.split("::")[-1]
        if report.failed:
            self.failed[name] = report.longrepr.reprcrash.message
        elif report.skipped:
            self.skipped.add(name)
        elif report.when == "call":
            self.passed.add(name)


Run = Callable[..., Outcomes]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a function that runs the kit, in this process, on a backend in the toy's place.

    The packages that sound backends made are used again, so that what is broken in load
    or in a runner meets the checks, and not the parity gate of the export.
    """
    folder = tmp_path_factory.mktemp("third_party")
    (folder / "pytest.ini").write_text("[pytest]\n")
    original = registry._load

    def run(backend: type[Backend], checks: str = "", kit: str = KIT) -> Outcomes:
        outcomes = Outcomes()
        tests = folder / f"test_third_party_{crc32(kit.encode())}.py"
        tests.write_text(kit)
        options = ["-c", folder / "pytest.ini", "-qq", "-s", "--import-mode=importlib"]
        off = [f"-p no:{plugin}" for plugin in ("cacheprovider", "timeout", "xdist")]
        served = backend()
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTEST_ADDOPTS", raising=False)
            patch.setattr(registry, "_load", lambda n: served if n == "toy" else original(n))
            pytest.main([*map(str, options), *off, "-k", checks, str(tests)], [outcomes])
        return outcomes

    return run


@pytest.fixture(scope="session")
def twin(run: Run) -> Outcomes:
    """Run the whole kit on the sound twin of the broken backends."""
    return run(ToyBackend)
