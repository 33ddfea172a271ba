"""Where an accelerator listens: `[scheme://]host:port`, parsed once."""

from __future__ import annotations

from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from attrs import frozen

Scheme = Literal["http", "https", "oip+http", "triton+http"]
DEFAULT_PORT: Final = 8470


@frozen
class Endpoint:
    """An address; `https` where the connection is encrypted.

    `oip+http` and `triton+http` are servers that are not eipack's own.
    """

    host: str
    port: int = DEFAULT_PORT
    scheme: Scheme = "http"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `HOST`, `HOST:PORT`, `[::1]:PORT` or one of them behind `scheme://`.

        Raises:
            ValueError: It is none of these.
        """
        scheme, separator, rest = text.strip().rpartition("://")
        if separator and scheme not in get_args(Scheme):
            known = ", ".join(get_args(Scheme))
            raise ValueError(f"endpoint {text!r}: unknown scheme {scheme!r}; known: {known}")
        parts = urlsplit(f"//{rest}")
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"endpoint {text!r}: the port is a number up to 65535") from error
        if not parts.hostname or parts.path or parts.query or parts.username is not None:
            raise ValueError(f"endpoint {text!r}: write HOST:PORT, as 127.0.0.1:{DEFAULT_PORT}")
        return cls(
            parts.hostname,
            DEFAULT_PORT if port is None else port,
            cast("Scheme", scheme if separator else "http"),
        )

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.scheme == "https"

    @property
    def foreign(self) -> bool:
        """Whether the server is another's than eipack's."""
        return "+" in self.scheme

    @property
    def netloc(self) -> str:
        """Host and port, as a Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.netloc if self.scheme == "http" else f"{self.scheme}://{self.netloc}"
