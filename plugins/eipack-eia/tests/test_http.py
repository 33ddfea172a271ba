"""HTTP on the server's side, over a pair of sockets: whole, in pieces, and broken."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from threading import Event, Thread
from time import perf_counter_ns

import pytest
from attrs import define
from eipack_eia.server.access import Limits
from eipack_eia.server.http import (
    Buffer,
    ConnectionEnded,
    Receiver,
    Request,
    Response,
    be_patient,
    send,
)

from eipack.errors import DeadlineExceeded, ProtocolError

POLL_S = 0.02
LIMITS = Limits(
    header_bytes=4096, body_bytes=32 << 20, upload_chunk_bytes=1 << 20, idle_s=0.3, receive_s=0.3
)
HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HEAD + b"Content-Length: 5\r\n\r\nhello"


@define
class Line:
    """Both ends of a connection: a client's socket, and the receiver of the server."""

    client: socket.socket
    server: socket.socket
    receiver: Receiver

    def receive(self) -> Request:
        return self.receiver.request(self.receiver.wait(Event()))

    def take(self) -> tuple[str, bytes]:
        """Receive a request and be done with it."""
        request = self.receive()
        found = request.path, bytes(request.body)
        self.receiver.done(request.head_size + len(request.body))
        return found

    def send_later(self, pieces: Sequence[bytes], *, hang_up: bool = False) -> Thread:
        def work() -> None:
            for piece in pieces:
                self.client.sendall(piece)
            if hang_up:
                self.client.shutdown(socket.SHUT_WR)

        thread = Thread(target=work)
        thread.start()
        return thread


@pytest.fixture
def line() -> Iterator[Line]:
    client, server = socket.socketpair()
    be_patient(server, POLL_S)
    client.settimeout(5)
    with client, server:
        yield Line(client, server, Receiver(server, LIMITS))


def refused(line: Line, data: bytes) -> str:
    line.client.sendall(data)
    with pytest.raises(ProtocolError) as caught:
        line.receive()
    return str(caught.value)


def test_a_request_is_read_whole(line: Line) -> None:
    line.client.sendall(
        b"PUT /v2/a%20b//?offset=12&x=%26 HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Padded:   much \r\nContent-Length: 5\r\n\r\nhello"
    )
    request = line.receive()
    assert (request.method, request.path) == ("PUT", "v2/a b")
    assert dict(request.query) == {"offset": "12", "x": "&"}
    assert (request.header("host"), request.header("x-padded")) == ("localhost", "much")
    assert request.header("x-missing") is None
    assert bytes(request.body) == b"hello"
    assert request.keep_alive


def test_a_request_may_come_in_single_bytes(line: Line) -> None:
    sender = line.send_later([bytes([byte]) for byte in WHOLE])
    assert line.take() == ("v2/models/m/infer", b"hello")
    sender.join()


def test_two_requests_may_come_at_once(line: Line) -> None:
    line.client.sendall(WHOLE + WHOLE.replace(b"hello", b"world"))
    assert line.take()[1] == b"hello"
    assert line.take()[1] == b"world"


def test_half_of_a_second_request_is_kept_until_the_rest_comes(line: Line) -> None:
    line.client.sendall(WHOLE + WHOLE[:60])
    assert line.take()[1] == b"hello"
    sender = line.send_later([WHOLE[60:]])
    assert line.take()[1] == b"hello"
    sender.join()


@pytest.mark.parametrize("length", [b"Content-Length: 2\r\n\r\nab", b"X: no body"])
@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_the_client_says_whether_the_connection_stays(
    line: Line, version: bytes, connection: bytes, expected: bool, length: bytes
) -> None:
    line.client.sendall(b"GET / HTTP/" + version + b"\r\n" + connection + length + b"\r\n\r\n")
    assert line.receive().keep_alive is expected


def test_a_request_needs_no_body(line: Line) -> None:
    line.client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert line.take() == ("v2/health/live", b"")


def test_the_largest_header_is_taken_and_one_byte_more_is_not(line: Line) -> None:
    filler = b"A" * (LIMITS.header_bytes - len(HEAD) - len(b"X: \r\n\r\n"))
    line.client.sendall(HEAD + b"X: " + filler + b"\r\n\r\n")
    assert line.take()[1] == b""
    assert "the header has more than 4096 bytes" in refused(
        line, HEAD + b"X: A" + filler + b"\r\n\r\n"
    )


def test_a_header_without_an_end_is_given_up(line: Line) -> None:
    assert "the header has more than 4096 bytes" in refused(line, b"GET / HTTP/1.1\r\nX: " * 1000)


def test_a_body_that_is_too_large_is_refused_before_it_comes(line: Line) -> None:
    size = LIMITS.body_bytes + 1
    said = refused(line, HEAD + b"Content-Length: %d\r\n\r\n" % size)
    assert said == f"the body has {size} bytes, this accelerator takes {LIMITS.body_bytes}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Transfer-Encoding: chunked", "a body needs a Content-Length here; it came chunked"),
        (b"Content-Encoding: gzip", "compressed bodies are not accepted here"),
        (b"Content-Length: 5\r\nContent-Length: 5", ""),
        (b"Content-Length: 5\r\nContent-Length: 6", ""),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", ""),
        (b"Content-Length: -5", ""),
        (b"Content-Length: 5, 5", ""),
        (b"Content-Length: 0x5", ""),
        (b"Content-Length: +5", ""),
        (b"Content-Length: " + b"0" * 20 + b"5", ""),
        (b"Content-Length: " + b"9" * 400, ""),
        (b"Host: elsewhere", "the header host is there twice"),
        (b"Authorization: a\r\nAuthorization: b", "the header authorization is there twice"),
        (b"Upgrade: websocket\r\nConnection: Upgrade", "this accelerator speaks HTTP/1.1 alone"),
        (b"X : space before the colon", "the request is no HTTP/1.1"),
        (b" folded", "the request is no HTTP/1.1"),
        (b"no colon", "the request is no HTTP/1.1"),
        (b"X: a\x00b", "the request is no HTTP/1.1"),
    ],
    ids=lambda value: repr(value[:48]),
)
def test_a_header_that_could_mean_two_things_is_refused(
    line: Line, header: bytes, expected: str
) -> None:
    assert expected in refused(line, HEAD + header + b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(range(256)) + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:16]),
)
def test_garbage_is_refused(line: Line, data: bytes) -> None:
    assert refused(line, data)


def test_a_client_that_expects_to_be_told_is_told_to_go_on(line: Line) -> None:
    line.client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")

    def work() -> None:
        if line.client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n":
            line.client.sendall(b"hello")

    client = Thread(target=work)
    client.start()
    assert line.take()[1] == b"hello"
    client.join()


def test_a_client_that_has_sent_its_body_already_is_not_told_to(line: Line) -> None:
    line.client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
    assert line.take()[1] == b"hello"
    line.server.close()
    assert line.client.recv(100) == b""


@pytest.mark.parametrize("cut", [1, 20, len(HEAD), len(WHOLE) - 1])
def test_a_client_that_hangs_up_in_the_middle_ends_the_connection(line: Line, cut: int) -> None:
    line.send_later([WHOLE[:cut]], hang_up=True).join()
    with pytest.raises(ConnectionEnded):
        line.receive()


def test_a_client_that_hangs_up_between_requests_ends_the_connection(line: Line) -> None:
    line.client.close()
    with pytest.raises(ConnectionEnded):
        line.receiver.wait(Event())


def test_a_quiet_client_is_let_go(line: Line) -> None:
    began = perf_counter_ns()
    with pytest.raises(ConnectionEnded):
        line.receiver.wait(Event())
    assert 0.2e9 < perf_counter_ns() - began < 3e9


def test_a_waiting_connection_ends_when_the_accelerator_stops(line: Line) -> None:
    stopping = Event()
    stopping.set()
    began = perf_counter_ns()
    with pytest.raises(ConnectionEnded):
        line.receiver.wait(stopping)
    assert perf_counter_ns() - began < 0.25e9


@pytest.mark.parametrize("cut", [20, len(WHOLE) - 1])
def test_a_slow_sender_is_given_up(line: Line, cut: int) -> None:
    line.client.sendall(WHOLE[:cut])
    with pytest.raises(DeadlineExceeded, match=r"the request did not come within 0\.3 s"):
        line.receive()


class TestRepeats:
    """A request that begins like the one before is received without being read."""

    prefix = WHOLE[:-5]

    def repeats(self, line: Line) -> bool:
        return line.receiver.repeats(self.prefix, len(WHOLE), line.receiver.wait(Event()))

    def test_the_same_beginning_is_known_again(self, line: Line) -> None:
        line.client.sendall(WHOLE)
        assert self.repeats(line)
        assert bytes(line.receiver.memory[: len(WHOLE)]) == WHOLE

    def test_the_rest_of_the_body_is_waited_for(self, line: Line) -> None:
        sender = line.send_later([WHOLE[:-4], *[bytes([byte]) for byte in WHOLE[-4:]]])
        assert self.repeats(line)
        assert bytes(line.receiver.memory[: len(WHOLE)]) == WHOLE
        sender.join()

    def test_what_comes_behind_it_is_kept(self, line: Line) -> None:
        other = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        line.client.sendall(WHOLE + other)
        assert self.repeats(line)
        line.receiver.done(len(WHOLE))
        assert not self.repeats(line)
        assert line.take() == ("v2", b"")

    @pytest.mark.parametrize("cut", [1, len(WHOLE) - 6])
    def test_half_of_the_beginning_is_read_as_any_request(self, line: Line, cut: int) -> None:
        line.client.sendall(WHOLE[:cut])
        assert not self.repeats(line)
        sender = line.send_later([WHOLE[cut:]])
        assert line.take()[1] == b"hello"
        sender.join()

    def test_a_client_that_hangs_up_in_the_middle_ends_it(self, line: Line) -> None:
        line.send_later([WHOLE[:-1]], hang_up=True).join()
        with pytest.raises(ConnectionEnded):
            self.repeats(line)


class TestBuffer:
    """One buffer a connection: it grows for a large request and is given back in quiet times."""

    large = bytes(range(256)) * (5 << 12)  # 5 MiB
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(large) + large

    def test_it_grows_for_a_large_body(self, line: Line) -> None:
        before = line.receiver.generation
        sender = line.send_later([self.request])
        assert line.take()[1] == self.large
        assert line.receiver.generation == before + 1
        sender.join()

    def test_the_next_large_body_finds_it_large_enough(self, line: Line) -> None:
        sender = line.send_later([self.request, self.request])
        line.take()
        after = line.receiver.generation
        assert line.take()[1] == self.large
        assert line.receiver.generation == after
        sender.join()

    def test_it_shrinks_while_the_client_is_quiet(self, line: Line) -> None:
        sender = line.send_later([self.request])
        line.take()
        sender.join()
        generation = line.receiver.generation
        with pytest.raises(ConnectionEnded):
            line.receiver.wait(Event())
        assert len(line.receiver.memory) < 1 << 20
        assert line.receiver.generation == generation + 1

    def test_a_small_one_stays(self, line: Line) -> None:
        line.client.sendall(WHOLE)
        line.take()
        generation = line.receiver.generation
        with pytest.raises(ConnectionEnded):
            line.receiver.wait(Event())
        assert line.receiver.generation == generation


def test_an_answer_has_its_length_and_headers() -> None:
    answer = Response(503, [b"ab", b"cde"], {"Retry-After": "1"}, "text/plain")
    assert answer.head(keep_alive=False).split(b"\r\n") == [
        b"HTTP/1.1 503 Service Unavailable",
        b"Content-Type: text/plain",
        b"Content-Length: 5",
        b"Retry-After: 1",
        b"Connection: close",
        b"",
        b"",
    ]
    assert b"Connection" not in answer.head(keep_alive=True)


def test_buffers_larger_than_the_sockets_own_are_sent_whole(line: Line) -> None:
    parts: list[Buffer] = [b"head", memoryview(b"x" * (3 << 20)), b"", b"y" * (1 << 20), b"end"]
    sender = Thread(target=send, args=(line.server, parts))
    sender.start()
    wanted = sum(map(len, parts))
    received = bytearray()
    while len(received) < wanted:
        received += line.client.recv(1 << 20)
    sender.join()
    assert received == b"".join(parts)


def test_what_cannot_be_http_is_refused_before_it_ends(line: Line) -> None:
    line.client.sendall(b"\x16\x03\x01\x02\x00\x01")  # as a client of TLS begins
    with pytest.raises(ProtocolError, match="is TLS spoken"):
        line.take()
