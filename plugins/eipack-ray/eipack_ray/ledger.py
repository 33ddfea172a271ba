"""Who holds which accelerator of a pool, and for how long.

A lease lasts until it is given back, or has not been renewed for `lease_s`. A registry that Ray
has restarted knows no leases: it lends nothing for that long, and takes over what is renewed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final, Literal

from attrs import define, field

from eipack_ray.allocation import Candidate, Wish, choose, spare
from eipack_ray.messages import Answer, Ask, Grant, Held, Holder, Member, Standing

State = Literal["pending", "ready", "restarting", "lost"]

SILENT_S: Final = 15.0
"""An accelerator that has not reported for so long counts as lost until it does."""


@define
class _Accelerator:
    """What the registry knows of an accelerator."""

    id: str
    type: str
    memory_bytes: int
    endpoint: str | None = None
    node: str = ""
    serving: bool = False
    process_id: int | None = None
    detail: str = ""
    heard: float | None = None
    restarts: int = 0
    leaving: bool = False

    def state(self, now: float) -> State:
        if self.heard is None:
            return "pending"
        if now - self.heard > SILENT_S:
            return "lost"
        return "ready" if self.serving else "restarting"


@define
class _Lease:
    held: Held
    until: float


@define
class Ledger:
    """The book of a pool; safe between threads."""

    pool: str
    lease_s: float
    shared: bool = False
    recovered: bool = False
    _clock: Callable[[], float] = time.monotonic
    _accelerators: dict[str, _Accelerator] = field(factory=dict, init=False)
    _leases: dict[str, _Lease] = field(factory=dict, init=False)
    _ended: dict[str, float] = field(factory=dict, init=False)
    _struck: set[str] = field(factory=set, init=False)
    _lock: Lock = field(factory=Lock, init=False)
    _began: float = field(init=False)

    @_began.default
    def _now(self) -> float:
        return self._clock()

    def report(
        self,
        accelerator: str,
        type_name: str,
        memory_bytes: int,
        endpoint: str | None = None,
        node: str = "",
        *,
        serving: bool = False,
        process_id: int | None = None,
        restarts: int = 0,
        detail: str = "",
    ) -> None:
        """Note how an accelerator is; without an endpoint, that there is to be one."""
        with self._lock:
            if accelerator in self._struck:
                return  # it was said before, and comes late
            fresh = _Accelerator(accelerator, type_name, memory_bytes)
            one = self._accelerators.setdefault(accelerator, fresh)
            if endpoint is None and not detail:
                return
            one.endpoint, one.node = endpoint or one.endpoint, node
            one.serving, one.restarts, one.detail = serving, restarts, detail
            one.process_id = process_id
            one.heard = self._clock()

    def forget(self, accelerators: Iterable[str]) -> None:
        """Strike out accelerators that were taken down."""
        with self._lock:
            for one in accelerators:
                self._accelerators.pop(one, None)
                self._struck.add(one)

    def give_up(self, type_name: str, count: int) -> list[str]:
        """Choose up to `count` free accelerators of a type; they are lent no more."""
        with self._lock:
            self._expire()
            waiting = [
                one.id
                for one in self._accelerators.values()
                if one.type == type_name and one.heard is None and not one.leaving
            ][:count]
            there = spare(self._candidates(), type_name, count - len(waiting))
            chosen = [*waiting, *(one.id for one in there)]
            for name in chosen:
                self._accelerators[name].leaving = True
            return chosen

    def lend(self, ask: Ask) -> Answer:
        """Lend an accelerator, or say why not; the same lease gets the same answer again."""
        with self._lock:
            self._expire()
            known = self._leases.get(ask.lease)
            if known is not None:
                return Answer(self._grant(known.held))
            now = self._clock()
            wait_s = self._began + self.lease_s - now
            if self.recovered and wait_s > 0:
                why = f"pool {self.pool} was restarted, and lends again in {wait_s:.0f} s"
                return Answer(why=why)
            shared = ask.shared or self.shared
            nodes = {
                self._accelerators[one.held.accelerator].node
                for one in self._leases.values()
                if one.held.client == ask.client and one.held.accelerator in self._accelerators
            }
            chosen = choose(self._candidates(), Wish(ask.type, shared, frozenset(nodes)))
            if chosen is None:
                return Answer(why=self._why_none(ask))
            held = Held(ask.lease, ask.client, chosen.id, shared)
            self._leases[ask.lease] = _Lease(held, now + self.lease_s)
            return Answer(self._grant(held))

    def renew(self, held: Held) -> Standing:
        """Renew a lease, or take up one that has ended if nobody else has the accelerator."""
        with self._lock:
            self._expire()
            lease = self._leases.get(held.lease)
            lost = "" if lease is not None else self._why_lost(held)
            if lost:
                return Standing(self.lease_s, lost=lost)
            if lease is None:
                lease = self._leases[held.lease] = _Lease(held, 0.0)
            lease.until = self._clock() + self.lease_s
            one = self._accelerators.get(lease.held.accelerator)
            return Standing(self.lease_s, one.endpoint if one is not None and one.serving else None)

    def release(self, lease: str) -> None:
        """End a lease; renewals that are still under way do not bring it back."""
        with self._lock:
            self._leases.pop(lease, None)
            self._ended[lease] = self._clock() + self.lease_s

    def members(self) -> list[Member]:
        """Describe the accelerators and who holds them."""
        with self._lock:
            self._expire()
            now = self._clock()
            return [
                Member(
                    one.id,
                    one.type,
                    one.state(now),
                    one.endpoint,
                    one.node,
                    one.process_id,
                    one.restarts,
                    one.detail,
                    [
                        Holder(lease.held.client, lease.held.shared, round(lease.until - now, 1))
                        for lease in self._leases.values()
                        if lease.held.accelerator == one.id
                    ],
                )
                for one in self._accelerators.values()
            ]

    def _expire(self) -> None:
        now = self._clock()
        for name in [name for name, lease in self._leases.items() if lease.until <= now]:
            del self._leases[name]
        for name in [name for name, until in self._ended.items() if until <= now]:
            del self._ended[name]

    def _candidates(self) -> list[Candidate]:
        """List what is ready, held or not: what is held says how full a node is."""
        now = self._clock()
        held: dict[str, list[Held]] = {}
        for lease in self._leases.values():
            held.setdefault(lease.held.accelerator, []).append(lease.held)
        return [
            Candidate(
                one.id,
                one.type,
                one.memory_bytes,
                one.node,
                holders=len(held.get(one.id, ())),
                exclusive=any(not lease.shared for lease in held.get(one.id, ())),
            )
            for one in self._accelerators.values()
            if one.state(now) == "ready" and not one.leaving
        ]

    def _grant(self, held: Held) -> Grant:
        one = self._accelerators[held.accelerator]
        return Grant(one.id, one.type, one.endpoint or "", self.lease_s, held.shared)

    def _why_none(self, ask: Ask) -> str:
        of_type = [one for one in self._accelerators.values() if ask.type in (None, one.type)]
        if not of_type:
            known = ", ".join(sorted({one.type for one in self._accelerators.values()}))
            return f"pool {self.pool} has no {ask.type}; it has {known or 'nothing yet'}"
        held = {lease.held.accelerator for lease in self._leases.values()}
        now = self._clock()
        taken = sum(one.id in held for one in of_type)
        away = sum(one.state(now) != "ready" for one in of_type if one.id not in held)
        return (
            f"pool {self.pool} has no free {ask.type or 'accelerator'}: of {len(of_type)}, "
            f"{taken} are held and {away} not ready; wait with --wait-s, or share with --shared"
        )

    def _why_lost(self, held: Held) -> str:
        """Say why a lease that is not in the book cannot be taken up; empty if it can."""
        if held.lease in self._ended:
            return f"it was given back to pool {self.pool}"
        others = [
            lease.held
            for lease in self._leases.values()
            if lease.held.accelerator == held.accelerator
        ]
        if others and not (held.shared and all(one.shared for one in others)):
            return f"it was not renewed in time, and pool {self.pool} has lent it to another client"
        one = self._accelerators.get(held.accelerator)
        if one is None and (held.accelerator in self._struck or not self.recovered):
            return f"pool {self.pool} has that accelerator no more"
        if one is not None and one.leaving:
            return f"pool {self.pool} takes that accelerator down"
        return ""
