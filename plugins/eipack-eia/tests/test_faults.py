"""Bad input and broken networks: a typed error or the right answer in time, never a hang."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from eipack_eia.attached import Files
from eipack_eia.client.connection import Pool
from eipack_eia.client.uploading import package_id, upload
from eipack_eia.credentials import Credentials
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.access import Limits
from torch import Tensor

import eipack
from eipack.errors import (
    AcceleratorDenied,
    AcceleratorError,
    AcceleratorFull,
    AcceleratorOverloaded,
    AcceleratorUnavailable,
    DeadlineExceeded,
    DeviceNotFound,
    DigestMismatch,
    EipackError,
    ExecutionFailed,
    ProgramNotFound,
    ProtocolError,
)
from eipack.package import Package

from .proxy import Fault, Proxy
from .rig import (
    FAIL,
    WIDE_INPUT,
    Local,
    accelerating,
    asked,
    exchange,
    obedient,
    right,
    seconds,
    session_at,
    wide,
)

pytestmark = pytest.mark.timeout(60)

TOKEN = "of-the-tests"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
MB = 1_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    return obedient(folder)


@pytest.fixture(scope="module")
def token_file(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(f"{TOKEN}\nonly-infer infer\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def local(folder: Path, token_file: Path) -> Iterator[Local]:
    """One accelerator for all tests that do it no harm; it gives a request a second to come."""
    limits = Limits(receive_s=1.0, body_bytes=64 * MB)
    files = Files(token_file=token_file)
    with accelerating(
        folder / "store", limits=limits, files=files, token_file=token_file
    ) as running:
        yield running


@pytest.fixture
def proxy(local: Local) -> Iterator[Proxy]:
    with Proxy(local.endpoint) as running:
        yield running


Open = Callable[..., Any]


@pytest.fixture
def through(proxy: Proxy, local: Local, package: Path) -> Open:
    """Open the obedient model through the proxy."""
    return lambda **options: session_at(proxy.endpoint, package, local.files, **options)


@pytest.fixture
def direct(local: Local, package: Path) -> Iterator[eipack.Session]:
    with session_at(local.endpoint, package, local.files) as session:
        yield session


def request(
    method: str, path: str, body: bytes = b"", *headers: str, host: str = "localhost"
) -> bytes:
    lines = [f"{method} /{path} HTTP/1.1", f"Host: {host}", *headers]
    if not any(line.lower().startswith("content-length") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + f"\r\n{BEARER}\r\n").encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def kind(answer: bytes) -> str:
    """Return the class that an answer names."""
    head = answer.partition(b"\r\n\r\n")[0].decode()
    named = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    return named["eipack-error"]


def infer(model: str, x: Tensor, **parameters: Any) -> bytes:
    """Return an inference request for one input, as whoever reads the protocol writes it."""
    one = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.reshape(-1).tolist()}
    body = json.dumps({"inputs": [one], "parameters": parameters}).encode()
    return request("POST", f"v2/models/{model}/infer", body)


def model_of(local: Local) -> str:
    return next(m.name for m in local.parts.models.resident() if m.name.startswith("obedient"))


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit_s


# --- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\x16\x03" * 50 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nno colon here\r\n\r\n",
        request("POST", "v2/repository/index", b"", "Content-Length: many"),
        request("POST", "v2/repository/index", b"", "Content-Length: -1"),
        request("POST", "v2/repository/index", b"", "Content-Length: 0", "Content-Length: 7"),
        request("POST", "v2/repository/index", b"0\r\n\r\n", "Transfer-Encoding: chunked"),
        request("POST", "v2/repository/index", b"x", "Content-Encoding: gzip"),
        request("POST", "v2/repository/index", b"", f"Content-Length: {65 * MB}"),
        request("POST", "v2/repository/index", b"", "Content-Length: " + "9" * 50),
        request("GET", "v2", b"", f"X-Filler: {'x' * 70_000}"),
        request("GET", "v2", b"", *[f"X-{number}: y" for number in range(10_000)]),
    ],
    ids=lambda sent: repr(sent[:16]),
)
def test_what_is_no_http_is_refused_at_once(local: Local, sent: bytes) -> None:
    with within(2):
        answer = exchange(local.endpoint, sent)
    assert status(answer) == 400
    assert kind(answer) == "ProtocolError"
    assert local.control.json("GET", "v2")["name"] == "eipack-eia"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"null", b"\xff\xfe", b'{"inputs": 3}', b"[" * 100_000, b'{"inputs": []}'],
)
def test_a_body_that_is_no_inference_request_is_refused(
    local: Local, direct: eipack.Session, body: bytes
) -> None:
    answer = exchange(
        local.endpoint, request("POST", f"v2/models/{model_of(local)}/infer", body), end=True
    )
    assert status(answer) == 400


@pytest.mark.parametrize(
    "one",
    [
        {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
        {"name": "x", "shape": [1, 512], "datatype": "FP32", "data": [1, 2, 3]},
        {"name": "x", "shape": [1, 512], "datatype": "FP64", "data": [1.0] * 512},
        {"name": "x", "shape": [-1, -512], "datatype": "FP32", "data": [1.0] * 512},
        {"name": "x", "shape": [1, 512], "datatype": "COMPLEX", "data": [1.0] * 512},
        {"name": "x", "shape": [1, 512], "datatype": "FP32"},
        {"name": "other", "shape": [1, 512], "datatype": "FP32", "data": [1.0] * 512},
        {"name": "x", "shape": [1, 512], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "x", "shape": [1 << 40], "datatype": "FP32", "data": [1.0]},
    ],
    ids=lambda one: f"{one['name']} {one['shape']} {one['datatype']}",
)
def test_an_input_of_the_wrong_kind_is_refused(
    local: Local, direct: eipack.Session, one: dict[str, Any]
) -> None:
    before = local.executed()
    body = json.dumps({"inputs": [one]}).encode()
    answer = exchange(
        local.endpoint, request("POST", f"v2/models/{model_of(local)}/infer", body), end=True
    )
    assert (status(answer), kind(answer)) in {(400, "ProtocolError"), (400, "SignatureMismatch")}
    assert local.executed() == before


def test_an_unknown_model_is_not_found(local: Local) -> None:
    with pytest.raises(ProgramNotFound, match="there is no model 'nothing'"):
        local.control.request("GET", "v2/models/nothing")


def test_an_unknown_package_is_not_found(local: Local) -> None:
    with pytest.raises(ProgramNotFound, match="upload it"):
        local.control.json("POST", "v2/eipack/sessions", {"package": "ab" * 32})


def test_bytes_behind_the_body_are_a_request_that_is_refused(local: Local) -> None:
    answer = exchange(local.endpoint, request("GET", "v2/health/live") + b"too much\r\n\r\n")
    first, _, second = answer.partition(b"HTTP/1.1 400")
    assert status(first) == 200
    assert b"ProtocolError" in second


def test_a_body_that_ends_early_is_hung_up_on(local: Local) -> None:
    cut = request("POST", "v2/repository/index", b"{}", "Content-Length: 1000")
    with within(2):
        assert exchange(local.endpoint, cut, end=True) == b""


def test_a_body_that_never_comes_is_given_up_in_time(local: Local) -> None:
    cut = request("POST", "v2/repository/index", b"{}", "Content-Length: 1000")
    with within(4):
        answer = exchange(local.endpoint, cut)
    assert (status(answer), kind(answer)) == (504, "DeadlineExceeded")


def test_a_slow_sender_is_given_up_in_time(local: Local) -> None:
    drips = [bytes([byte]) for byte in request("GET", "v2", b"", f"X-Filler: {'x' * 100}")]
    with within(4):
        answer = exchange(local.endpoint, *drips, pause_s=0.02)
    assert (status(answer), kind(answer)) == (504, "DeadlineExceeded")


def test_slow_senders_do_not_keep_others_waiting(local: Local, direct: eipack.Session) -> None:
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(exchange, local.endpoint, b"GET /v2 HTTP/1.1\r\n") for _ in range(8)]
        with within(0.9):
            assert right(direct(asked(1.5)), 1.5)
        assert {status(one.result()) for one in slow} == {504}


# --- who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8470", "localhost.evil.example", ""]
)
def test_a_foreign_host_header_is_refused(local: Local, host: str) -> None:
    answer = exchange(local.endpoint, request("GET", "v2", host=host), end=True)
    assert (status(answer), kind(answer)) == (403, "AcceleratorDenied")


@pytest.mark.parametrize("said", ["wrong", None])
def test_a_wrong_or_missing_token_opens_no_session(
    local: Local, package: Path, tmp_path: Path, said: str | None
) -> None:
    files = Files()
    if said is not None:
        path = tmp_path / "token"
        path.write_text(said)
        path.chmod(0o600)
        files = Files(token_file=path)
    with pytest.raises(EipackError, match=r"the token is (not known here|missing)") as caught:
        with session_at(local.endpoint, package, files):
            pass
    assert isinstance(caught.value, AcceleratorDenied | DeviceNotFound)
    assert TOKEN not in str(caught.value)


def test_a_token_for_inference_uploads_nothing(local: Local, folder: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("only-infer")
    token.chmod(0o600)
    path, _ = wide(tmp_path, 1)
    with pytest.raises(AcceleratorDenied, match="does not allow to upload"):
        with session_at(local.endpoint, path, Files(token_file=token)):
            pass


def test_an_accelerator_that_is_absent_is_told_at_once(package: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        endpoint = Endpoint("127.0.0.1", gone.getsockname()[1])
    with within(3), pytest.raises(EipackError, match=r"Connection refused") as caught:
        with session_at(endpoint, package):
            pass
    assert isinstance(caught.value, AcceleratorUnavailable | DeviceNotFound)


class _OfAnotherVersion(BaseHTTPRequestHandler):
    """An accelerator of a version that knows no packages."""

    def do_GET(self) -> None:
        own = {"id": f"eia-{'0' * 32}", "type": "eia9.huge", "status": "healthy"}
        self._answer(
            200, {"name": "eipack-eia", "version": "99", "extensions": [], "accelerator": own}
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(404, {"error": "there is nothing there"})

    def _answer(self, code: int, document: Any) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


def test_an_accelerator_of_another_version_is_told_as_such(package: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OfAnotherVersion) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            endpoint = Endpoint("127.0.0.1", server.server_address[1])
            with pytest.raises(ProtocolError, match=rf"{endpoint}.*404.*nothing there"):
                with session_at(endpoint, package):
                    pass
        finally:
            server.shutdown()
            thread.join()


# --- uploads ------------------------------------------------------------------------------------


def test_bytes_of_another_digest_are_not_kept(local: Local, tmp_path: Path) -> None:
    path, expected = wide(tmp_path, 2)
    with Package.open(path) as opened:
        document = {
            "manifest": opened.manifest.to_json().decode(),
            "signings": {name: data.decode() for name, data in opened.signings().items()},
        }
    missing = local.control.json("POST", "v2/eipack/packages", document)["missing"]
    blob = min(missing, key=lambda one: one["size"])
    address = f"v2/eipack/blobs/{blob['digest']}?offset=0"
    with pytest.raises(DigestMismatch):
        local.control.request("PUT", address, bytes(blob["size"]))
    assert local.control.json("POST", "v2/eipack/packages", document)["missing"] == missing
    with session_at(local.endpoint, path, local.files) as session:
        torch.testing.assert_close(session(WIDE_INPUT), expected)


def test_more_bytes_than_announced_are_not_kept(local: Local, tmp_path: Path) -> None:
    path, _ = wide(tmp_path, 3)
    with Package.open(path) as opened:
        document = {
            "manifest": opened.manifest.to_json().decode(),
            "signings": {name: data.decode() for name, data in opened.signings().items()},
        }
    missing = local.control.json("POST", "v2/eipack/packages", document)["missing"]
    blob = min(missing, key=lambda one: one["size"])
    with pytest.raises(ProtocolError, match="was announced with"):
        local.control.request(
            "PUT", f"v2/eipack/blobs/{blob['digest']}?offset=0", bytes(blob["size"] + 1)
        )
    assert local.control.json("POST", "v2/eipack/packages", document)["missing"] == missing


def test_an_upload_that_is_cut_goes_on_where_it_was(
    local: Local, proxy: Proxy, tmp_path: Path
) -> None:
    path, expected = wide(tmp_path, 4)
    with within(20):
        proxy.to_server.suffer(Fault(cut_after=8_700_000))  # in the second chunk of the weights
        with session_at(proxy.endpoint, path, local.files) as session:
            torch.testing.assert_close(session(WIDE_INPUT), expected)
    assert proxy.to_server.happened.is_set()
    assert proxy.to_server.passed < 10 * MB


def test_an_upload_with_a_flipped_byte_is_refused(
    local: Local, proxy: Proxy, tmp_path: Path
) -> None:
    path, _ = wide(tmp_path, 5)
    proxy.to_server.suffer(Fault(flip_at=4_000_000))
    with pytest.raises(DigestMismatch):
        with session_at(proxy.endpoint, path, local.files):
            pass
    assert proxy.to_server.happened.is_set()


def test_two_clients_upload_the_same_package_at_once(local: Local, tmp_path: Path) -> None:
    path, expected = wide(tmp_path, 6)
    start = threading.Barrier(2)

    def send() -> str:
        with Package.open(path) as opened:
            start.wait(10)
            return upload(local.control, opened)

    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(send) for _ in range(2)]
        ids = {one.result(30) for one in sent}
    with Package.open(path) as opened:
        assert ids == {package_id(opened.manifest.to_json())}
    with session_at(local.endpoint, path, local.files) as session:
        torch.testing.assert_close(session(WIDE_INPUT), expected)


def test_a_model_that_is_too_large_is_refused_with_both_numbers(
    package: Path, tmp_path: Path
) -> None:
    with accelerating(tmp_path, memory_bytes=100_000, no_token=True) as small:
        with pytest.raises(AcceleratorFull, match=r"needs \d{7} bytes, and the slice has 100000"):
            with session_at(small.endpoint, package):
                pass


# --- calls over a bad network -------------------------------------------------------------------


def test_a_slow_network_gives_the_right_answer(proxy: Proxy, through: Open) -> None:
    with through(deadline_ms=5000) as session:
        proxy.to_client.suffer(Fault(delay_s=0.05))
        proxy.to_server.suffer(Fault(bytes_per_s=20_000))
        assert right(session(asked(2.5)), 2.5)


def test_an_answer_that_comes_too_late_is_never_that_of_the_next_call(
    proxy: Proxy, through: Open
) -> None:
    with through(deadline_ms=300) as session:
        assert right(session(asked(1.5)), 1.5)
        proxy.to_client.suffer(Fault(delay_s=0.6))
        with within(1), pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
            session(asked(2.5))
        proxy.to_client.heal()
        for first in (3.5, 4.5):
            assert right(session(asked(first)), first)


@pytest.mark.parametrize("position", [0, 100, 1500])
def test_a_request_that_is_cut_is_not_run(
    local: Local, proxy: Proxy, through: Open, position: int
) -> None:
    with through(deadline_ms=5000) as session:
        session(asked(1.5))
        before = local.executed()
        proxy.to_server.suffer(Fault(cut_after=position))
        with within(1), pytest.raises(AcceleratorUnavailable):
            session(asked(2.5))
        assert local.executed() == before
        assert right(session(asked(3.5)), 3.5)
        assert local.executed() == before + 1


@pytest.mark.parametrize("position", [0, 100, 1500])
def test_a_call_whose_answer_is_cut_has_run_once(
    local: Local, proxy: Proxy, through: Open, position: int
) -> None:
    with through(deadline_ms=5000) as session:
        session(asked(1.5))
        before = local.executed()
        proxy.to_client.suffer(Fault(cut_after=position))
        with within(1), pytest.raises(AcceleratorUnavailable):
            session(asked(2.5))
        assert local.executed() == before + 1
        assert right(session(asked(3.5)), 3.5)
        assert local.executed() == before + 2


@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_a_network_that_swallows_is_given_up_in_time(proxy: Proxy, through: Open, way: str) -> None:
    with through(deadline_ms=400) as session:
        session(asked(1.5))
        getattr(proxy, way).suffer(Fault(swallow_after=50))
        with within(1.5), pytest.raises(DeadlineExceeded):
            session(asked(2.5))
        getattr(proxy, way).heal()
        assert right(session(asked(3.5)), 3.5)


def test_an_answer_that_drips_is_given_up_in_time(proxy: Proxy, through: Open) -> None:
    with through(deadline_ms=400) as session:
        session(asked(1.5))
        proxy.to_client.suffer(Fault(bytes_per_s=1000))
        with within(1.5), pytest.raises(DeadlineExceeded):
            session(asked(2.5))


@pytest.mark.parametrize("bytes_per_s", [MB, 20 * MB])
def test_a_request_that_leaves_too_slowly_is_given_up_in_time(
    proxy: Proxy, bytes_per_s: float
) -> None:
    proxy.to_server.suffer(Fault(bytes_per_s=bytes_per_s, swallow_after=0))
    pool = Pool(proxy.endpoint, Credentials(), deadline_s=0.3)
    with within(1), pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
        pool.exchange(lambda wire: wire.send([memoryview(bytes(30 * MB))]))
    proxy.to_server.suffer(Fault(cut_after=0))


@pytest.mark.parametrize("position", [0, 9, 20, 45, 60, 75, 90, 110])
def test_a_flipped_byte_in_an_answers_header_is_a_typed_error_or_harmless(
    proxy: Proxy, through: Open, position: int
) -> None:
    with through(deadline_ms=1000) as session:
        session(asked(1.5))
        proxy.to_client.suffer(Fault(flip_at=position))
        with suppress(ProtocolError, AcceleratorError, DeadlineExceeded, ExecutionFailed):
            assert right(session(asked(2.5)), 2.5)
        assert proxy.to_client.happened.is_set()
        proxy.to_client.heal()
        assert right(session(asked(3.5)), 3.5)


# --- calls that fail, wait or are not wanted any more -------------------------------------------


def test_a_model_that_fails_does_so_with_a_typed_error(
    local: Local, direct: eipack.Session
) -> None:
    assert right(direct(asked(1.5)), 1.5)
    with pytest.raises(ExecutionFailed, match="obedient"):
        direct(asked(FAIL))
    assert right(direct(asked(2.5)), 2.5)


def _busy(local: Local) -> None:
    end = time.monotonic() + 5
    while not local.parts.scheduler.longest_ns():
        assert time.monotonic() < end
        time.sleep(0.005)


def _waiting(local: Local, count: int) -> None:
    end = time.monotonic() + 5
    while local.parts.scheduler.waiting < count:
        assert time.monotonic() < end
        time.sleep(0.005)


def _idle(local: Local) -> None:
    end = time.monotonic() + 10
    while local.parts.scheduler.longest_ns() or local.parts.scheduler.waiting:
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def gone(local: Local, sent: bytes) -> Iterator[None]:
    """Send a request, and hang up without waiting for the answer when the block ends."""
    here = local.endpoint
    with socket.create_connection((here.host, here.port)) as connection:
        connection.sendall(sent)
        yield


def test_a_request_whose_client_has_gone_is_dropped_before_it_runs(
    local: Local, direct: eipack.Session
) -> None:
    direct(asked(1.5))
    before = local.executed()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(direct, asked(seconds(0.5)))
        _busy(local)
        with gone(local, infer(model_of(local), asked(1.5))):
            _waiting(local, 1)
        slow.result(10)
    _idle(local)
    assert local.executed() == before + 1


def test_a_client_that_goes_while_its_request_runs_harms_nobody(
    local: Local, direct: eipack.Session
) -> None:
    direct(asked(1.5))
    before = local.executed()
    with gone(local, infer(model_of(local), asked(seconds(0.3)))):
        _busy(local)
    assert right(direct(asked(2.5)), 2.5)
    end = time.monotonic() + 5
    while local.executed() < before + 2:  # the thread that counts it may come after the answer
        assert time.monotonic() < end
        time.sleep(0.005)
    assert local.executed() == before + 2


def test_a_request_that_waits_beyond_its_deadline_is_not_run(
    local: Local, direct: eipack.Session
) -> None:
    direct(asked(1.5))
    before = local.executed()
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(direct, asked(seconds(0.5)))
        _busy(local)
        waiting = pool.submit(_ask, local, infer(model_of(local), asked(1.5), timeout=100_000))
        slow.result(10)
        answer = waiting.result(10)
    assert (status(answer), kind(answer)) == (504, "DeadlineExceeded")
    assert local.executed() == before + 1


def _ask(local: Local, sent: bytes) -> bytes:
    """Send a request, and return the beginning of its answer."""
    here = local.endpoint
    with socket.create_connection((here.host, here.port), 10) as connection:
        connection.sendall(sent)
        return connection.recv(1 << 16)


def test_overload_is_answered_at_once(package: Path, tmp_path: Path) -> None:
    with accelerating(tmp_path, queue=1, no_token=True) as local:
        with session_at(local.endpoint, package) as session, ThreadPoolExecutor(2) as pool:
            session(asked(1.5))
            running = pool.submit(session, asked(seconds(1.0)))
            _busy(local)
            waiting = pool.submit(session, asked(2.5))
            _waiting(local, 1)
            with within(0.5), pytest.raises(AcceleratorOverloaded, match="1 requests wait already"):
                session(asked(3.5))
            assert not running.done()
            running.result(10)
            assert right(waiting.result(10), 2.5)


def test_too_many_connections_are_answered_at_once(tmp_path: Path) -> None:
    with accelerating(tmp_path, limits=Limits(connections=1), no_token=True) as local:
        here = local.endpoint
        with socket.create_connection((here.host, here.port)) as first:
            first.sendall(request("GET", "v2/health/live"))
            assert status(first.recv(1000)) == 200
            with within(1), pytest.raises(AcceleratorOverloaded, match="too many connections"):
                local.control.request("GET", "v2")


def test_a_call_that_runs_is_finished_when_the_accelerator_stops(
    package: Path, tmp_path: Path
) -> None:
    with accelerating(tmp_path, no_token=True) as local:
        with session_at(local.endpoint, package) as session, ThreadPoolExecutor(1) as pool:
            first = seconds(0.5)
            running = pool.submit(session, asked(first))
            _busy(local)
            local.accelerator.stop()
            assert right(running.result(10), first)
            with within(3), pytest.raises(AcceleratorUnavailable):
                session(asked(1.5))
