"""What images and manifests say is run here: their commands, with their paths in a folder."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from attrs import define
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import eipack

DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = "token-of-the-tests"
START_S = 60.0
STOP_S = 30.0


def certificate() -> tuple[bytes, bytes]:
    """Make a certificate for this host and its private key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "eipack")])
    now = datetime.now(UTC)
    hosts = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("eipack-package")]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    return (
        made.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(*form, serialization.NoEncryption()),
    )


@define
class Root:
    """A folder that stands for `/` of a container."""

    folder: Path

    def write(self, path: str, data: bytes | str, mode: int = 0o600) -> None:
        """Write a file at a path of the container."""
        place = self.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
        place.chmod(mode)

    def at(self, path: str) -> Path:
        """Return where a path of the container is on this host."""
        assert path.startswith("/"), path
        return self.folder / path[1:]

    def package(self, path: str) -> torch.nn.Module:
        """Export a small model to a path of the container."""
        model = torch.nn.Linear(4, 2).eval()
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        eipack.export(model, (torch.rand(1, 4),), name="model").save(self.at(path))
        return model

    def words(self, words: Sequence[str]) -> list[str]:
        """Return a command with its paths in this folder, for a free port of this host alone."""
        return [self._word(word) for word in self._on_any_port(list(words))]

    def _word(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if word.startswith("/"):
            return str(self.at(word))
        if equals and value.startswith("/"):
            return f"{name}={self.at(value)}"
        return word.replace("0.0.0.0", "127.0.0.1")

    @staticmethod
    def _on_any_port(words: list[str]) -> Iterator[str]:
        before = ""
        for word in words:
            if before == "--port":
                yield "0"
            elif word.startswith("--port="):
                yield "--port=0"
            else:
                yield word.replace("0.0.0.0:8470", "0.0.0.0:0")
            before = word


@contextmanager
def running(
    words: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run `eipack ...` of a container until the block ends; give what it said in JSON."""
    assert words[0] == "eipack"
    process = subprocess.Popen(
        [sys.executable, "-m", "eipack", *words[1:], "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment),
    )
    try:
        yield process, json.loads(_first_line(process))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _first_line(process: subprocess.Popen[str]) -> str:
    lines: list[str] = []
    stdout = process.stdout
    assert stdout is not None
    reader = Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    reader.join(START_S)
    if not lines or not lines[0]:
        process.kill()
        raise AssertionError(f"it did not start: {process.communicate()[1]}")
    return lines[0]


def asked(url: str, **headers: str) -> Any:
    """Ask a server without verifying its certificate, as a kubelet's probe does."""
    request = urllib.request.Request(url, headers=headers)
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        body = answer.read()
        return json.loads(body) if body else None


def public_key() -> str:
    """Return this user's public key as PEM, as `eipack trust show` prints it."""
    words = [sys.executable, "-m", "eipack", "trust", "show"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
