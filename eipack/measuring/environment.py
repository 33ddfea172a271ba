"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from eipack.package import Package


@frozen
class Environment:
    """The machine, the versions and the package behind a report's figures.

    `date` is when the run began (UTC, ISO 8601); `cores` are those that the process may use,
    `threads` those that torch uses within an operator; `memory_bytes` is what the machine or its
    control group has. `instance` names the kind of machine that one can rent (`c5.large`), None
    where nobody said and the machine does not. `libraries` are the versions of the engines that
    ran. `package_digest` is the manifest's, and so stands for every byte of the package;
    `weights_bytes` and `input_bytes` are what one copy of the model and one call's inputs take.
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


def describe(package: Package) -> Environment:
    """Describe this process, and the package it measures."""
    import torch

    from eipack import __version__
    from eipack.processor import model_name

    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=model_name(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        threads=torch.get_num_threads(),
        eipack=__version__,
        package=package.name,
        package_version=package.version,
        package_digest=manifest_digest(package),
    )


def manifest_digest(package: Package) -> str:
    """Return the digest of the package's manifest, which lists the digest of everything else."""
    from eipack.archive import digest_bytes

    return digest_bytes(package.manifest.to_json())
