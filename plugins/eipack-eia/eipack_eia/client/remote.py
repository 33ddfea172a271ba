"""A session on one accelerator: a package that is there, a model that stays, and the wire to it."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from attrs import evolve

from eipack.errors import AcceleratorUnavailable, EipackError
from eipack_eia.client.connection import Pool, Wire
from eipack_eia.client.control import Control
from eipack_eia.client.infer import Layout, Timing, lay_out
from eipack_eia.client.uploading import upload

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.package import Package
    from eipack_eia.attached import Attached
    from eipack_eia.credentials import Credentials

_LAYOUTS: Final = 64
_CLOSE_S: Final = 2.0
_FIRST_S: Final = 5.0
CLIENT: Final = uuid4().hex
"""What this process calls itself, so that accelerators are fair to processes, not connections."""


class Remote:
    """One program of a package on one accelerator; safe between threads."""

    def __init__(
        self, attached: Attached, package: Package, program: str, deadline_ms: float | None
    ) -> None:
        self.attached = attached
        self._package = package
        self._program = program
        self._deadline_ms = deadline_ms
        self._lock = RLock()
        self._layouts: dict[Any, Layout] = {}
        self._credentials: Credentials
        self._pool: Pool | None = None
        self._session = ""
        self._model = ""

    def open(self) -> None:
        """Send what is missing there and open a session; anew if there was one.

        Credentials are read anew too: an accelerator that was started again has another token.

        Raises:
            EipackError: It cannot be reached, or does not take the package.
        """
        with self._lock:
            self._credentials = self.attached.credentials
            control = Control(self.attached.endpoint, self._credentials)
            if self.attached.pool is not None:
                _check_identity(evolve(control, timeout_s=self._first_s), self.attached.id)
            package = upload(control, self._package)
            answer = control.json(
                "POST", "v2/eipack/sessions", {"package": package, "program": self._program}
            )
            self._session, self._model = answer["session"], answer["model"]
            self._layouts = {}
            if self._pool is not None:
                self._pool.close()
            seconds = None if self._deadline_ms is None else self._deadline_ms / 1000
            self._pool = Pool(self.attached.endpoint, self._credentials, seconds)

    @property
    def _first_s(self) -> float:
        """How long the first contact may take; a host that is gone does not even refuse."""
        return min(_FIRST_S, (self._deadline_ms or 1000 * _FIRST_S) / 1000)

    @property
    def is_open(self) -> bool:
        """Whether `open` has gone well."""
        return self._pool is not None

    def call(self, key: Any, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Timing]:
        """Run once; `key` tells inputs of different shapes apart.

        Raises:
            AcceleratorUnavailable: It was lost; its `sent` says whether it may have run the call.
            EipackError: What it answered.
        """
        pool = self._pool
        if pool is None:
            self.open()
            return self.call(key, inputs)
        layout = self._layouts.get(key) or self._lay_out(key, inputs)

        def talk(wire: Wire) -> tuple[tuple[Tensor, ...], Timing]:
            return layout.ask(wire, inputs)

        return pool.exchange(talk)

    def _lay_out(self, key: Any, inputs: tuple[Tensor, ...]) -> Layout:
        headers = {"eipack-client": CLIENT}
        if self._credentials.token is not None:
            headers["Authorization"] = f"Bearer {self._credentials.token}"
        parameters = {}
        if self._deadline_ms is not None:
            parameters["timeout"] = round(self._deadline_ms * 1000)
        path = f"v2/models/{self._model}/infer"
        host = self.attached.endpoint.netloc
        signature = self._package.signature
        layout = lay_out(host, path, signature, inputs, headers, parameters)
        while len(self._layouts) >= _LAYOUTS:
            self._layouts.pop(next(iter(self._layouts)), None)
        self._layouts[key] = layout
        return layout

    def details(self) -> dict[str, Any]:
        """Add nothing to what any session on an accelerator tells."""
        return {}

    def close(self) -> None:
        """End the session there, if it can be reached, and hang up."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.close()
        control = Control(self.attached.endpoint, self._credentials, timeout_s=_CLOSE_S)
        try:
            control.request("DELETE", f"v2/eipack/sessions/{self._session}")
        except EipackError:
            return  # it has no session any more, or ends it itself

    def forget(self) -> None:
        """Leave the sockets of a parent process alone, in a forked child."""
        if self._pool is not None:
            self._pool.forget()
            self._pool = None


def _check_identity(control: Control, wanted: str) -> None:
    """See that no other accelerator has the address by now: it may be somebody else's.

    Raises:
        AcceleratorUnavailable: Another one answers; nothing was sent to it.
    """
    from eipack_eia.health import ask

    said = ask(control)
    if said.id != wanted:
        raise AcceleratorUnavailable(
            f"{said.id} answers at {control.endpoint}, not {wanted}", sent=False
        )
