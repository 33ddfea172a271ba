"""The actor that keeps the book of a pool; Ray restarts it, and its clients find it again."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import msgspec
from eipack_eia.server.access import remove_local
from eipack_eia.server.supervisor import listen_at

from eipack_ray.desk import Desk
from eipack_ray.ledger import Ledger
from eipack_ray.settings import PoolSettings


class Registry:
    """A ledger, a desk for clients, and methods for accelerators and the command line."""

    def __init__(self, settings: PoolSettings) -> None:
        ray: Any = import_module("ray")
        host = settings.host(ray.util.get_node_ip_address())
        recovered = ray.get_runtime_context().was_current_actor_reconstructed
        listening, where = listen_at(settings.guard.at(host, settings.port))
        try:
            self._access = settings.guard.plan(where)
        except BaseException:
            listening.close()
            raise
        self._settings = settings
        self._where = where
        self._ledger = Ledger(settings.name, settings.lease_s, settings.shared, recovered)
        self._desk = Desk(self._ledger, self._access, listening, where)

    def settings(self) -> PoolSettings:
        """Tell how the pool was set up."""
        return self._settings

    def where(self) -> str:
        """Tell where clients reach it."""
        return str(self._where)

    def report(self, *given: Any, **more: Any) -> None:
        """Take the report of an accelerator, as `Ledger.report` does."""
        self._ledger.report(*given, **more)

    def give_up(self, type_name: str, count: int) -> list[str]:
        """Choose accelerators that nobody holds, to be taken down."""
        return self._ledger.give_up(type_name, count)

    def forget(self, accelerators: list[str]) -> None:
        """Strike out accelerators that were taken down."""
        self._ledger.forget(accelerators)

    def describe(self) -> dict[str, Any]:
        """Describe the pool in plain values."""
        found: dict[str, Any] = msgspec.to_builtins(self._desk.describe())
        return found

    def stop(self) -> None:
        """Answer clients no more, and take away the token that was left for them."""
        self._desk.stop()
        if self._access.token_path is not None and self._access.tokens is not None:
            remove_local(self._where, self._access.tokens)
