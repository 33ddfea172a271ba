"""A session on another's server of the Open Inference Protocol: Triton, MLServer, KServe.

A Triton that loads models on request is sent the package's program; on any other server, and
where the accelerator was attached with a model's name, that model is used. Either is held to
the signature and to the package's samples before it serves.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from eipack.errors import (
    AcceleratorError,
    DeadlineExceeded,
    EipackError,
    ParityFailed,
    ProgramNotFound,
    UnsupportedModel,
)
from eipack_eia.client.connection import Pool, Wire
from eipack_eia.client.control import Control
from eipack_eia.client.foreign_layout import ForeignLayout, Form, JsonLayout
from eipack_eia.client.foreign_model import (
    Binding,
    Capabilities,
    bind,
    capabilities,
    is_absent,
    metadata,
    no_model,
)
from eipack_eia.client.infer import Timing
from eipack_eia.client.triton import Hold, uploads

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.package import Package
    from eipack_eia.attached import Attached
    from eipack_eia.credentials import Credentials

_LAYOUTS: Final = 64
_CLOSE_S: Final = 2.0
_PROOF_S: Final = 120.0
_EXPIRED: Final = "timeout expired"


class ForeignRemote:
    """One program of a package on a foreign server; safe between threads."""

    def __init__(
        self, attached: Attached, package: Package, program: str, deadline_ms: float | None
    ) -> None:
        self.attached = attached
        self._package = package
        self._program = program
        self._deadline_ms = deadline_ms
        self._lock = RLock()
        self._layouts: dict[Any, ForeignLayout | JsonLayout] = {}
        self._credentials: Credentials
        self._pool: Pool | None = None
        self._hold: Hold | None = None
        self._form: Form
        self._found: Capabilities

    def open(self) -> None:
        """Have a model there that is the package's, and prove that it is; anew if there was one.

        Raises:
            ProgramNotFound: There is no model of that name, or nothing that could be sent.
            SignatureMismatch: The model takes or gives something else.
            ParityFailed: The model does not answer the package's samples as the package does.
            EipackError: It cannot be reached, or refuses.
        """
        with self._lock:
            self._credentials = self.attached.credentials
            endpoint = self.attached.endpoint
            control = Control(endpoint, self._credentials)
            self._found = capabilities(control)
            try:
                self._form = self._formed(self._bound(control))
                self._prove()
            except BaseException:
                self._let_go()
                raise
            self._layouts = {}
            if self._pool is not None:
                self._pool.close()
            seconds = None if self._deadline_ms is None else self._deadline_ms / 1000
            self._pool = Pool(endpoint, self._credentials, seconds)

    def _bound(self, control: Control) -> Binding:
        model = self.attached.model
        if model is None:
            model = self._sent(control)
        return bind(model, metadata(control, model), self._package.signature)

    def _sent(self, control: Control) -> str:
        """Have the server hold the package's program, and return the model's name."""
        if not self._found.repository:
            raise ProgramNotFound(
                f"the server at {control.endpoint} ({self._found}) takes no packages; detach it "
                "and attach it again with --model and the name of a model that it has"
            )
        choices = [] if self._hold is None else [self._hold]
        choices = choices or [
            Hold(one, control.endpoint) for one in uploads(self._package, self._program)
        ]
        refusals = []
        for hold in choices:
            try:
                hold.ensure(control)
            except UnsupportedModel as error:
                refusals.append(error)
                continue
            self._hold = hold
            return hold.upload.name
        raise refusals[0]

    def _formed(self, binding: Binding) -> Form:
        token = self._credentials.token
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        host, signature = self.attached.endpoint.netloc, self._package.signature
        return Form(host, signature, binding, headers, self._found.binary)

    def _prove(self) -> None:
        """Hold the model to the package's samples."""
        from eipack.parity.tolerance import compare

        inputs, expected = self._package.samples()
        pool = Pool(self.attached.endpoint, self._credentials, _PROOF_S)
        try:
            outputs, _ = self._ask(pool, self._form.lay_out(inputs, {}), inputs)
        finally:
            pool.close()
        model = self._form.binding.model
        for spec, wanted, got in zip(
            self._package.signature.outputs, expected, outputs, strict=True
        ):
            difference = compare(wanted, got)
            if not difference.agrees:
                reason = difference.reason or f"it differs by {difference.max_abs:.3g}"
                raise ParityFailed(
                    f"model {model!r} at {self.attached.endpoint} answers the package's samples "
                    f"in another way: {reason} in output {spec.name!r}; use the model that the "
                    "package was made from",
                    output=spec.name,
                    max_abs=difference.max_abs,
                )

    @property
    def is_open(self) -> bool:
        """Whether `open` has gone well."""
        return self._pool is not None

    def call(self, key: Any, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Timing]:
        """Run once; `key` tells inputs of different shapes apart.

        Raises:
            AcceleratorUnavailable: It was lost; its `sent` says whether it may have run the call.
            ProgramNotFound: The server has let the model go; nothing was run.
            EipackError: What it answered.
        """
        pool = self._pool
        if pool is None:
            self.open()
            return self.call(key, inputs)
        layout = self._layouts.get(key) or self._lay_out(key, inputs)
        return self._ask(pool, layout, inputs)

    def _ask(
        self, pool: Pool, layout: ForeignLayout | JsonLayout, inputs: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], Timing]:
        def talk(wire: Wire) -> tuple[tuple[Tensor, ...], Timing]:
            return layout.ask(wire, inputs)

        try:
            return pool.exchange(talk)
        except EipackError as error:
            if is_absent(error):
                raise no_model(self.attached.endpoint, self._form.binding.model) from error
            if isinstance(error, AcceleratorError) and _EXPIRED in str(error).lower():
                raise DeadlineExceeded(str(error)) from error
            raise

    def _lay_out(self, key: Any, inputs: tuple[Tensor, ...]) -> ForeignLayout | JsonLayout:
        parameters = {}
        if self._deadline_ms is not None and self.attached.kind == "triton":
            parameters["timeout"] = round(self._deadline_ms * 1000)
        layout = self._form.lay_out(inputs, parameters)
        while len(self._layouts) >= _LAYOUTS:
            self._layouts.pop(next(iter(self._layouts)), None)
        self._layouts[key] = layout
        return layout

    def details(self) -> dict[str, Any]:
        """Say whose server it is, which model runs there, and which program was sent for it."""
        program = None if self._hold is None else self._hold.upload.record.id
        server = f"{self._found.name} {self._found.version}".strip()
        return {"server": server, "model": self._form.binding.model, "program": program}

    def close(self) -> None:
        """Hang up, and take back what was sent, if the server can be reached."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.close()
        self._let_go()

    def _let_go(self) -> None:
        hold, self._hold = self._hold, None
        if hold is None:
            return
        try:
            hold.release(Control(self.attached.endpoint, self._credentials, timeout_s=_CLOSE_S))
        except EipackError:
            return  # it has the model no more, or keeps it

    def forget(self) -> None:
        """Leave the sockets of a parent process alone, in a forked child, and its model too."""
        self._hold = None
        if self._pool is not None:
            self._pool.forget()
            self._pool = None
