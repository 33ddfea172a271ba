"""Setting pools up, listing them and taking them down, as a driver of the Ray cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from attrs import evolve
from eipack_eia.sizes import size_of

from eipack.errors import AcceleratorUnavailable, OptionRefused
from eipack_ray.member import Member
from eipack_ray.registry import Registry
from eipack_ray.settings import NAMESPACE, Offer, PoolSettings, member_name

if TYPE_CHECKING:
    from eipack_ray.claim import Claim
    from eipack_ray.cluster import Cluster

_HEAD: Final = "node:__internal_head__"
"""Ray's resource that the node with the cluster's own books has alone."""

_POLL_S: Final = 0.25
_END_S: Final = 30.0
_READY_S: Final = 2.0
_START_S: Final = 60.0
_THREADS: Final = 8


def up(
    cluster: Cluster, settings: PoolSettings, offer: Offer, count: int, claim: Claim
) -> list[str]:
    """Let a pool have `count` accelerators of a type; return the ids of those that are new.

    What is missing is added. Of what is too much, accelerators that nobody holds are taken down.

    Raises:
        OptionRefused: The pool is there with other settings.
        AcceleratorDenied: It would be open to others.
        AcceleratorUnavailable: Its registry does not start, or does not answer.
    """
    registry = _registry(cluster, settings)
    described = cluster.ask(registry.describe.remote())
    there = [one["id"] for one in described["accelerators"] if one["type"] == offer.type]
    if len(there) > count:
        _shrink(cluster, settings.name, registry, offer.type, len(there) - count)
    new = [f"eia-{uuid4().hex}" for _ in range(count - len(there))]
    size = size_of(offer.type)
    for accelerator in new:
        cluster.ask(registry.report.remote(accelerator, offer.type, size.memory_bytes))
        _start(cluster, settings, accelerator, offer, claim)
    return new


def _registry(cluster: Cluster, settings: PoolSettings) -> Any:
    found = cluster.find(settings.registry)
    if found is None:
        _check_reach(cluster, settings)
        head = {_HEAD: 0.001}  # whoever must find it again looks there
        found = _actor(cluster, Registry, settings.registry, {"resources": head}, settings)
    there = cluster.ask(found.settings.remote(), _START_S)
    if evolve(there, port=settings.port or there.port) != evolve(
        settings, port=settings.port or there.port
    ):
        raise OptionRefused(
            f"pool {settings.name} is up with other settings ({_told(there)}); leave them out or "
            f"give the same, or take it down first: eipack eia pool down {settings.name}"
        )
    return found


def _check_reach(cluster: Cluster, settings: PoolSettings) -> None:
    """See here that a pool can be reached, and by whom, rather than in an actor that dies of it."""
    addresses = {str(node["NodeManagerAddress"]) for node in cluster.hosts}
    if settings.loopback and len(addresses) > 1:
        raise OptionRefused(
            f"--loopback is for a cluster on one host, and this one has {len(addresses)}"
        )
    for address in addresses:
        if not settings.loopback:
            settings.guard.plan(settings.guard.at(address, settings.port))


def _told(settings: PoolSettings) -> str:
    shared = "--shared" if settings.shared else "not shared"
    return f"--lease-s {settings.lease_s:g}, {shared}, port {settings.port}, and who may use it"


def _start(
    cluster: Cluster, settings: PoolSettings, accelerator: str, offer: Offer, claim: Claim
) -> None:
    name = member_name(settings.name, accelerator)
    _actor(cluster, Member, name, claim.options(), settings, accelerator, offer)


def _actor(cluster: Cluster, kind: type, name: str, claim: dict[str, Any], *given: Any) -> Any:
    """Start a named actor that outlives this driver and is restarted without limit."""
    remote = cluster.ray.remote(kind).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=-1,
        max_concurrency=_THREADS,
        **({"num_cpus": 0} | claim),
    )
    return remote.remote(*given)


def placed(cluster: Cluster, pool: str, ids: list[str], wait_s: float) -> list[str]:
    """Wait until accelerators serve; return those that do not yet when the time is over.

    Raises:
        AcceleratorUnavailable: One cannot start, and says why.
    """
    registry = _found(cluster, pool)
    until = time.monotonic() + wait_s
    while True:
        there = cluster.ask(registry.describe.remote())["accelerators"]
        waiting = [one for one in there if one["id"] in ids and one["state"] != "ready"]
        if not waiting or time.monotonic() > until:
            break
        time.sleep(_POLL_S)
    told = [one["detail"] for one in waiting if one["detail"]]
    if told:
        raise AcceleratorUnavailable(
            f"{len(told)} of {len(ids)} accelerators of pool {pool} do not start: {told[0]}"
        )
    return [one["id"] for one in waiting]


def describe(cluster: Cluster, pool: str) -> dict[str, Any]:
    """Describe a pool as its registry does.

    Raises:
        AcceleratorUnavailable: There is none of that name, or its registry does not answer.
    """
    found: dict[str, Any] = cluster.ask(_found(cluster, pool).describe.remote())
    return found


def where(cluster: Cluster, pool: str) -> str:
    """Tell where clients reach a pool's registry.

    Raises:
        AcceleratorUnavailable: There is none of that name, or it does not answer.
    """
    return str(cluster.ask(_found(cluster, pool).where.remote(), _START_S))


def _found(cluster: Cluster, pool: str) -> Any:
    found = cluster.find(PoolSettings(pool).registry)
    if found is None:
        known = ", ".join(cluster.pools())
        there = f"its pools: {known}" if known else "it has none; see: eipack eia pool up --help"
        raise AcceleratorUnavailable(f"the Ray cluster has no pool {pool!r}; {there}")
    return found


def down(cluster: Cluster, pool: str) -> int:
    """Take a pool down; return how many accelerators it had.

    Raises:
        AcceleratorUnavailable: There is no such pool.
    """
    names = cluster.members(pool)
    registry = cluster.find(PoolSettings(pool).registry)
    if registry is None and not names:
        _found(cluster, pool)
    _end(cluster, names)
    if registry is not None:
        _stop(cluster, [registry])
    return len(names)


def _shrink(cluster: Cluster, pool: str, registry: Any, type_name: str, count: int) -> None:
    chosen = cluster.ask(registry.give_up.remote(type_name, count))
    _end(cluster, [member_name(pool, one) for one in chosen])
    cluster.ask(registry.forget.remote(chosen))


def _end(cluster: Cluster, names: list[str]) -> None:
    found = [cluster.find(name) for name in names]
    _stop(cluster, [one for one in found if one is not None])


def _stop(cluster: Cluster, actors: list[Any]) -> None:
    """Let actors end in their own way, for some seconds, and end them for good."""
    # What Ray has not placed yet, or is placing anew, would never answer.
    asked = {actor.__ray_ready__.remote(): actor for actor in actors}
    there = _waited(cluster, list(asked), _READY_S)
    _waited(cluster, [asked[one].stop.remote() for one in there], _END_S)
    for actor in actors:
        cluster.end(actor)


def _waited(cluster: Cluster, calls: list[Any], seconds: float) -> list[Any]:
    if not calls:
        return []
    done: list[Any]
    done, _ = cluster.ray.wait(calls, num_returns=len(calls), timeout=seconds)
    return done
