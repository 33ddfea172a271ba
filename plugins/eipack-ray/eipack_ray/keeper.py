"""The process that keeps what this host has attached, while no session is open.

It starts with the first accelerator that a pool lends, ends with the last that is detached, and
there is one for each folder of settings: `python -m eipack_ray.keeper`. It renews the leases and
writes down where their accelerators are now.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eipack_eia import attached as store
from eipack_eia.endpoint import Endpoint

from eipack.errors import EipackError
from eipack.trust.folder import config_folder
from eipack_ray.attachment import SCHEME
from eipack_ray.client import Finder
from eipack_ray.renewing import pause_s, renewed

if TYPE_CHECKING:
    from eipack_eia.attached import Attached

_FILE: Final = "pool-keeper.lock"
_POLL_S: Final = 1.0


def ensure() -> None:
    """Start the keeper of this user, unless it runs."""
    folder = config_folder()
    lock = None if folder is None else _claimed(folder)
    if lock is None:
        return
    os.close(lock)
    nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    # Not by subprocess, which would complain that nobody waits for it.
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "eipack_ray.keeper"],
        os.environ,
        file_actions=nowhere,
        setsid=True,
    )


def _claimed(folder: Path) -> int | None:
    """Lock the keeper's file; None if another process has it."""
    lock = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def main() -> None:
    """Renew leases until nothing that a pool has lent is attached."""
    folder = config_folder()
    lock = None if folder is None else _claimed(folder)
    while folder is not None and lock is not None:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        _keep_all()
        os.close(lock)
        # What was attached just now has seen the lock, and left it to this process.
        lock = _claimed(folder) if _lent([]) else None


def _keep_all() -> None:
    finder = Finder()
    due = 0.0
    leases: dict[str, float] = {}
    kept: list[Attached] = []
    while kept := _lent(kept):
        if time.monotonic() >= due or {one.id for one in kept} - leases.keys():
            leases = {one.id: _keep(finder, one) for one in kept}
            due = time.monotonic() + pause_s(leases.values())
        time.sleep(min(_POLL_S, max(due - time.monotonic(), 0.05)))


def _lent(before: list[Attached]) -> list[Attached]:
    """List what pools have lent; what it was before while the list cannot be read."""
    try:
        return [one for one in store.attached() if (one.pool or "").startswith(f"{SCHEME}://")]
    except EipackError:
        return before


def _keep(finder: Finder, one: Attached) -> float:
    """Renew one lease, and note where its accelerator is; return how long it lasts."""
    try:
        standing = renewed(finder, one)
        if standing.endpoint is not None and standing.endpoint != str(one.endpoint):
            store.relocate(one, Endpoint.parse(standing.endpoint))
    except EipackError:
        return _POLL_S  # until the registry is there again
    return standing.lease_s


if __name__ == "__main__":
    main()
