"""A package as a deployment of Ray Serve, called by HTTP or by its handle."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ray import serve
from starlette.requests import Request  # noqa: TC002 - Ray looks at the annotation

from eipack_serving.asgi import answered, application
from eipack_serving.failures import Unavailable
from eipack_serving.service import PackageService

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.responses import Response

    from eipack_serving.arrays import Array, Inputs


def deployment(
    file: str | os.PathLike[str],
    target: str = "cpu",
    *,
    service_options: Mapping[str, Any] | None = None,
    **serve_options: Any,
) -> Application:
    """Bind a package as an application for `serve.run`; the file is read where replicas run.

    `service_options` are those of `PackageService`, `serve_options` those of `serve.deployment`.
    In `user_config` any argument of `PackageService` may be given, and changed while it serves.
    """
    asked = {"file": os.fspath(file), "target": target, **(service_options or {})}
    return serve.deployment(**serve_options)(PackageDeployment).bind(asked)


class PackageDeployment:
    """One replica: HTTP is the Open Inference Protocol, a handle calls `infer` with arrays."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = dict(asked)
        self._service = PackageService(**self._asked)
        self._service.start()
        self._application = application(cast("PackageService", _Current(self)))

    async def __call__(self, request: Request) -> Response:
        """Answer a request of the protocol, by whatever package is served at the time.

        Ray hands requests over whole; its way for ASGI applications takes twice as long.
        """
        return await answered(self._application, request)

    async def infer(self, inputs: Inputs) -> dict[str, Array]:
        """Run the model once: inputs and outputs are arrays by the signature's names.

        Raises what `PackageService.infer` raises.
        """
        return await self._service.ainfer(inputs)

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata as the Open Inference Protocol has it."""
        return self._service.metadata()

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Go over to another package, target or precision without losing a request."""
        service = PackageService(**{**self._asked, **config})
        await asyncio.to_thread(service.start)
        before, self._service = self._service, service
        await asyncio.to_thread(before.__exit__)

    def check_health(self) -> None:
        """Raise where no requests are taken, so that Ray puts another replica in its place.

        Raises:
            Unavailable: The service does not take requests.
        """
        if not self._service.ready:
            raise Unavailable("the package's service takes no requests; Ray starts another replica")


class _Current:
    """Stand for the service of the moment, so that a request finds it when its body is there."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica._service, name)
