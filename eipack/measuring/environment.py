"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from eipack.measuring.entrant import Origin
    from eipack.package import Package

_MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@frozen
class Environment:
    """The machine, the versions and the package behind a report's figures.

    `date` is when the run began (UTC, ISO 8601); `cores` are those that the process may use,
    `threads` those that torch uses within an operator; `memory_bytes` is what the machine or its
    control group has. `instance` names the kind of machine that one can rent (`c5.large`), None
    where nobody said and the machine does not. `libraries` are the versions of torch, of the
    plugins that ran, and of their engines. `package_digest` is the manifest's, and so stands for
    every byte of the package; `weights_bytes` and `input_bytes` are what one copy of the model
    and one call's inputs take.
    """

    date: str
    machine: str
    cores: int
    memory_bytes: int
    instance: str | None
    system: str
    python: str
    torch: str
    threads: int
    eipack: str
    libraries: Mapping[str, str]
    package: str
    package_version: str | None
    package_digest: str
    weights_bytes: int
    input_bytes: int


def describe(
    package: Package, origins: Sequence[Origin], instance: str | None, date: datetime
) -> Environment:
    """Describe this machine and the package, and what the sessions said that were opened on it.

    `instance` is what the caller says; by default the machine is asked.
    """
    from eipack import __version__
    from eipack.measuring.instance import detect
    from eipack.processor import model_name

    first = origins[0]
    return Environment(
        date=date.isoformat(timespec="seconds"),
        machine=model_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes(),
        instance=instance or detect(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=first.torch,
        threads=first.torch_threads,
        eipack=__version__,
        libraries=_libraries(origins),
        package=package.name,
        package_version=package.version,
        package_digest=manifest_digest(package),
        weights_bytes=sum(entry.nbytes for entry in package.manifest.entries),
        input_bytes=first.input_bytes,
    )


def memory_bytes() -> int:
    """Return what the machine has, or what the control group of this process leaves of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_number(path) for path in _MEMORY_LIMITS)
    return min([physical, *(limit for limit in limits if limit)])


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None  # `max` where nothing is set


def _libraries(origins: Sequence[Origin]) -> dict[str, str]:
    """Return the versions of torch, of the plugins that ran and their engines, and of CUDA."""
    from eipack.target import Target

    names = {Target.parse(one.ran_on).entry_point for one in origins}
    own = {"eipack", *_required(metadata.requires("eipack"))} - {"torch"}
    found = {name: version for name, version in _of_plugins(names) if name not in own}
    cuda = next((one.cuda for one in origins if one.cuda), None)
    if cuda is not None:
        found["cuda"] = cuda
    return dict(sorted(found.items()))


def _of_plugins(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Give the distributions of plugins, and what they require that is installed."""
    from eipack.registry import GROUP

    for point in metadata.entry_points(group=GROUP):
        if point.name not in names or point.dist is None:
            continue
        yield point.dist.name, point.dist.version
        for name in _required(point.dist.requires):
            with suppress(metadata.PackageNotFoundError):
                yield name, metadata.version(name)


def _required(requirements: Iterable[str] | None) -> Iterator[str]:
    """Give the names of what is required in any case."""
    for requirement in requirements or ():
        name = re.match(r"[\w.-]+", requirement)
        if name and "extra ==" not in requirement:
            yield name[0]


def manifest_digest(package: Package) -> str:
    """Return the digest of the package's manifest, which lists the digest of everything else."""
    from eipack.archive import digest_bytes

    return digest_bytes(package.manifest.to_json())
