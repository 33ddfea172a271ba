"""Requests that are not inference: a connection each, through http.client."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from attrs import field, frozen

from eipack.errors import AcceleratorUnavailable, DeadlineExceeded, ProtocolError
from eipack_eia.credentials import Credentials, tls_error
from eipack_eia.endpoint import Endpoint
from eipack_eia.faults import KIND_HEADER, error_from

Buffer = bytes | bytearray | memoryview


@frozen
class Control:
    """An accelerator's side doors; safe between threads."""

    endpoint: Endpoint
    credentials: Credentials = field(factory=Credentials)
    timeout_s: float = 30.0

    def request(
        self, method: str, path: str, body: Buffer = b"", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the body of the answer.

        Raises:
            AcceleratorUnavailable: There is nobody, or the connection broke.
            DeadlineExceeded: No answer came within `timeout_s`.
            ProtocolError: The answer is not HTTP.
            EipackError: The error that the accelerator answered with.
        """
        given = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
        if self.credentials.token is not None:
            given["Authorization"] = f"Bearer {self.credentials.token}"
        with self._connection() as connection:
            connection.request(method, "/" + path.lstrip("/"), body, given)
            answer = connection.getresponse()
            data = answer.read()
        if answer.status >= 400:
            kind = answer.getheader(KIND_HEADER)
            raise error_from(answer.status, kind, data, f"the accelerator at {self.endpoint}")
        return data

    def json(self, method: str, path: str, document: Any = None) -> Any:
        """Send and receive JSON; an empty answer is None."""
        body = b"" if document is None else msgspec.json.encode(document)
        data = self.request(method, path, body, {"Content-Type": "application/json"})
        try:
            return msgspec.json.decode(data) if data else None
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"{self.endpoint} answered with what is not JSON") from error

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        """Translate what sockets, TLS and HTTP raise."""
        host, port = self.endpoint.host, self.endpoint.port
        connection: http.client.HTTPConnection
        if self.endpoint.encrypted:
            context = self.credentials.context()
            connection = http.client.HTTPSConnection(
                host, port, timeout=self.timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        try:
            yield connection
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer from {self.endpoint} within {self.timeout_s:g} s"
            ) from error
        except ssl.SSLError as error:
            raise tls_error(error, self.endpoint) from error
        except OSError as error:
            reason = error.strerror or error
            raise AcceleratorUnavailable(
                f"there is no accelerator at {self.endpoint}: {reason}"
            ) from error
        except http.client.HTTPException as error:
            raise ProtocolError(
                f"{self.endpoint} does not answer in HTTP: {type(error).__name__}"
            ) from error
        finally:
            connection.close()
