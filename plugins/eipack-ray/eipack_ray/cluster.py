"""The Ray cluster as pools see it: connecting, named actors, and Ray's errors translated."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from attrs import frozen

from eipack.errors import AcceleratorUnavailable, EipackError
from eipack_ray import local_cluster
from eipack_ray.settings import MEMBER, NAMESPACE, REGISTRY

_ANSWER_S: Final = 20.0
_REACH_S: Final = 5.0


@frozen
class Cluster:
    """A cluster that this process is connected to."""

    ray: Any

    @property
    def hosts(self) -> list[dict[str, Any]]:
        """List the nodes that are alive."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    @property
    def gpus(self) -> float:
        """Count the GPUs."""
        return float(self.ray.cluster_resources().get("GPU", 0.0))

    def pools(self) -> list[str]:
        """Name the pools of the cluster, those without a registry too."""
        found = {name.removeprefix(REGISTRY) for name in self._names(REGISTRY)}
        found |= {name.removeprefix(MEMBER).rpartition(".")[0] for name in self._names(MEMBER)}
        return sorted(found)

    def members(self, pool: str) -> list[str]:
        """Name the actors behind a pool's accelerators."""
        return self._names(f"{MEMBER}{pool}.")

    def _names(self, prefix: str) -> list[str]:
        actors = self.ray.util.list_named_actors(all_namespaces=True)
        names = [one["name"] for one in actors if one["namespace"] == NAMESPACE]
        return sorted(name for name in names if name.startswith(prefix))

    def find(self, name: str) -> Any | None:
        """Find an actor by name; None if there is none."""
        try:
            return self.ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return None

    def ask(self, call: Any, timeout_s: float = _ANSWER_S) -> Any:
        """Wait for an actor's answer.

        Raises:
            AcceleratorUnavailable: None comes in time, or the actor is gone.
            EipackError: What the actor raised.
        """
        errors = self.ray.exceptions
        try:
            return self.ray.get(call, timeout=timeout_s)
        except errors.RayTaskError as error:
            if isinstance(error.cause, EipackError):
                raise error.cause from error
            raise AcceleratorUnavailable(f"the pool's registry failed: {error.cause}") from error
        except errors.GetTimeoutError as error:
            raise AcceleratorUnavailable(
                f"the pool does not answer within {timeout_s:g} s; see: ray status"
            ) from error
        except errors.RayError as error:
            reason = str(getattr(error, "error_msg", error)).strip().splitlines()
            raise AcceleratorUnavailable(
                f"the pool is gone: {(reason or ['no reason given'])[0]}"
            ) from error

    def end(self, actor: Any) -> None:
        """End an actor for good."""
        self.ray.kill(actor, no_restart=True)


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a cluster until the block ends.

    `auto` is the cluster that this host belongs to, or this user's local one if that runs, which
    `local` means alone.

    Raises:
        AcceleratorUnavailable: There is none, or it is of another release of Ray.
    """
    address = _resolved(address)
    _reach(address)
    os.environ.update(
        {name: os.environ.get(name, value) for name, value in local_cluster.QUIET.items()}
    )
    os.environ.update(local_cluster.secrets_for(address))
    ray: Any = import_module("ray")
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            configure_logging=True,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AcceleratorUnavailable(
            f"no Ray cluster answers at {address} ({reason[:200]}); start one with `ray start "
            "--head`, or give --address local"
        ) from error
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """See whether anything listens at HOST:PORT, which Ray itself tries for a minute and more."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return  # a word of Ray's own, as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AcceleratorUnavailable(
            f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, "
            "or give --address local"
        ) from error


def _resolved(address: str) -> str:
    local = local_cluster.running() if address in {"auto", "local"} else None
    if address == "local" and local is None:
        raise AcceleratorUnavailable("no local cluster runs; see: eipack eia pool up --help")
    return local or address
