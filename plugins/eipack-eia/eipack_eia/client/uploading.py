"""Sending a package to an accelerator: only what it lacks, and on from where a break came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from attrs import evolve, frozen

from eipack.archive import CHUNK
from eipack.errors import AcceleratorUnavailable, DigestMismatch, ProtocolError, SigningInvalid
from eipack.package import Package
from eipack_eia.blobs import Missing, Offer, package_id
from eipack_eia.client.control import Control

__all__ = ["package_id", "upload"]

Progress = Callable[[int, int], None]

_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.1
# A slow disk, on which the accelerator writes the package and reads it again.
_COMMIT_BYTES_PER_S: Final = 50e6


def upload(control: Control, package: Package, progress: Progress | None = None) -> str:
    """Have an accelerator hold a package, and return its id; what is there already is not sent.

    `progress` is told how many bytes are sent, and of how many.

    Raises:
        AcceleratorUnavailable: There is nobody, or the connection broke, three times in a row
            without any progress.
        AcceleratorFull: The package does not fit there.
        AcceleratorDenied: The credentials do not allow it.
        DigestMismatch: The package's own file is damaged.
        UntrustedPackage: The accelerator trusts nobody who has signed the package.
        ProtocolError: The accelerator asks for what the package has not.
    """
    sending = _Sending.of(control, package, _Meter(progress))
    lowest: int | None = None
    failures = 0
    while True:
        try:
            offer = sending.begin()
            if lowest is None or offer.bytes_to_send < lowest:
                lowest, failures = offer.bytes_to_send, 0
            sending.send(offer)
            return sending.commit()
        except (AcceleratorUnavailable, ProtocolError):
            failures += 1
            if failures == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_S * failures)


class _Meter:
    """Counts what is sent, of what was missing when it was most."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._total = 0

    def left(self, nbytes: int) -> None:
        self._total = max(self._total, nbytes)
        if self._progress is not None:
            self._progress(self._total - nbytes, self._total)


@frozen
class _Sending:
    """One package on its way to one accelerator; `spans` says where its blobs lie in the file."""

    control: Control
    package: Package
    id: str
    document: dict[str, Any]
    spans: dict[str, tuple[int, int]]
    meter: _Meter

    @classmethod
    def of(cls, control: Control, package: Package, meter: _Meter) -> _Sending:
        manifest = package.manifest.to_json()
        try:
            signings = {name: data.decode() for name, data in package.signings().items()}
        except UnicodeDecodeError as error:
            raise SigningInvalid(f"a signing of {package.path} is not text") from error
        document = {"manifest": manifest.decode(), "signings": signings}
        return cls(control, package, package_id(manifest), document, package.spans(), meter)

    def begin(self) -> Offer:
        """Ask what is missing."""
        answer = self.control.json("POST", "/v2/eipack/packages", self.document)
        try:
            offer = msgspec.convert(answer, Offer)
        except msgspec.ValidationError as error:
            raise self._odd(f"answers an upload oddly: {error}") from error
        if offer.package != self.id:
            raise self._odd(f"calls package {self.id} {offer.package[:80]!r}")
        for blob in offer.missing:
            _, size = self.spans.get(blob.digest, (0, -1))
            if blob.size != size or not 0 <= blob.have < size:
                raise self._odd(f"asks for {blob.digest[:80]!r}, which the package has not so")
        return offer

    def send(self, offer: Offer) -> None:
        """Send what is missing."""
        left = offer.bytes_to_send
        self.meter.left(left)
        for blob in offer.missing:
            left -= blob.size - blob.have
            for here in self._send_blob(blob):
                self.meter.left(left + blob.size - here)

    def commit(self) -> str:
        """Have the package put together there."""
        patient = self.control.timeout_s + self.package.size / _COMMIT_BYTES_PER_S
        control = evolve(self.control, timeout_s=patient)
        control.json("POST", f"/v2/eipack/packages/{self.id}/commit")
        return self.id

    def _send_blob(self, blob: Missing) -> Iterator[int]:
        try:
            yield from self._put(blob)
        except DigestMismatch:
            if not blob.have:
                raise
            # What was there already was wrong, and is gone now.
            yield from self._put(evolve(blob, have=0))

    def _put(self, blob: Missing) -> Iterator[int]:
        """Send a blob in chunks, and say after each how many bytes of it are there."""
        start, size = self.spans[blob.digest]
        buffer = memoryview(bytearray(min(CHUNK, size - blob.have)))
        for offset in range(blob.have, size, CHUNK):
            view = buffer[: size - offset]
            self.package.read_into(start + offset, view)
            self.control.request("PUT", f"/v2/eipack/blobs/{blob.digest}?offset={offset}", view)
            yield offset + len(view)

    def _odd(self, what: str) -> ProtocolError:
        return ProtocolError(f"the accelerator at {self.control.endpoint} {what}")
