"""The client's side of an upload, against a real store behind a small HTTP server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import torch
from eipack_eia.client.control import Control
from eipack_eia.client.uploading import package_id, upload
from eipack_eia.endpoint import Endpoint
from eipack_eia.faults import KIND_HEADER, error_body, status_of
from eipack_eia.server.store import Store
from torch import nn

import eipack
from eipack.archive import digest_bytes
from eipack.errors import (
    AcceleratorFull,
    AcceleratorUnavailable,
    DigestMismatch,
    EipackError,
    ProtocolError,
    UntrustedPackage,
)
from eipack.package import Package
from eipack.trust import SigningKey

PLENTY = 1 << 30
CHUNK = 8 << 20
WIDE = 1500  # 9 MB of weights, more than a chunk


class Wide(nn.Module):
    """The same weights under two graphs."""

    def __init__(self, *, twice: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(WIDE, WIDE)
        self.twice = twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.wide(x)
        return torch.relu(y) * 2 if self.twice else y


def export(folder: Path, name: str, *, twice: bool) -> Path:
    x = torch.linspace(-1, 1, WIDE)[None]
    package = eipack.export(
        Wide(twice=twice).eval(), inputs=(x,), programs=["torchscript"], name=name
    )
    return package.save(folder / f"{name}.eipack")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return export(folder, "first", twice=False), export(folder, "second", twice=True)


@pytest.fixture
def first(paths: tuple[Path, Path]) -> Iterator[Package]:
    with Package.open(paths[0]) as package:
        yield package


@pytest.fixture
def second(paths: tuple[Path, Path]) -> Iterator[Package]:
    with Package.open(paths[1]) as package:
        yield package


class Broken(Exception):
    """Ends a request without an answer."""


Hook = Callable[["Served", str, str], Any]


class Served(http.server.ThreadingHTTPServer):
    """The three routes of an upload; `hook` sees each request first and may break it."""

    daemon_threads = True

    def __init__(self, store: Store, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Routes)
        self.store = store
        self.lock = threading.Lock()
        self.requests: list[str] = []
        self.bytes_received = 0
        self.hook: Hook = lambda server, method, path: None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def control(self) -> Control:
        return Control(Endpoint("127.0.0.1", self.server_address[1]), timeout_s=10)

    @property
    def puts(self) -> list[str]:
        return [line for line in self.requests if line.startswith("PUT")]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class Routes(http.server.BaseHTTPRequestHandler):
    server: Served

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        try:
            status, kind, body = 200, None, msgspec.json.encode(self.result())
        except EipackError as error:
            status, kind, body = status_of(error), type(error).__name__, error_body(str(error))
        except Broken:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if kind:
            self.send_header(KIND_HEADER, kind)
        self.end_headers()
        self.wfile.write(body)

    def result(self) -> Any:
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with server.lock:
            server.requests.append(f"{self.command} {self.path}")
            server.bytes_received += len(body)
            instead = server.hook(server, self.command, self.path)
        if instead is not None:
            return instead
        path, _, query = self.path.removeprefix("/v2/eipack/").partition("?")
        match self.command, path.split("/"):
            case "POST", ["packages"]:
                document = msgspec.json.decode(body)
                signings = {name: text.encode() for name, text in document["signings"].items()}
                return server.store.begin(document["manifest"].encode(), signings)
            case "PUT", ["blobs", digest]:
                offset = int(query.removeprefix("offset="))
                return {"have": server.store.append(digest, offset, body)}
            case "POST", ["packages", package, "commit"]:
                server.store.commit(package)
                return {"package": package}
        raise ProtocolError(f"no route {self.path}")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Store(tmp_path / "store", PLENTY) as store:
        server = Served(store)
        yield server
        server.stop()


def rebuilt(served: Served, package: str) -> bytes:
    path = served.store.path(package)
    assert path is not None
    return path.read_bytes()


def break_at(number: int, *, times: int = 1) -> Hook:
    """Break so many PUTs from a certain one on."""

    def hook(server: Served, method: str, path: str) -> None:
        if method == "PUT" and number <= len(server.puts) < number + times:
            raise Broken

    return hook


def test_a_package_arrives_to_the_last_bit(served: Served, first: Package) -> None:
    package = upload(served.control, first)
    assert package == package_id(first.manifest.to_json())
    assert rebuilt(served, package) == Path(first.path).read_bytes()


def test_the_id_is_the_blake3_of_the_manifest() -> None:
    assert f"blake3:{package_id(b'manifest')}" == digest_bytes(b"manifest")


def test_a_chunk_has_at_most_8_mib(served: Served, first: Package) -> None:
    upload(served.control, first)
    digest = max(first.manifest.entries, key=lambda entry: entry.nbytes).digest
    offsets = [line.partition("=")[2] for line in served.puts if digest in line]
    assert offsets == ["0", str(CHUNK)]


def test_what_is_there_is_not_sent_again(served: Served, first: Package) -> None:
    upload(served.control, first)
    served.requests.clear()
    upload(served.control, first)
    assert served.puts == []


def test_a_new_graph_on_known_weights_is_sent_alone(
    served: Served, first: Package, second: Package
) -> None:
    upload(served.control, first)
    served.bytes_received = 0
    package = upload(served.control, second)
    assert 0 < served.bytes_received < 100_000 < second.size
    assert rebuilt(served, package) == Path(second.path).read_bytes()


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_broken_connection_is_taken_up_where_it_broke(
    served: Served, first: Package, number: int
) -> None:
    served.hook = break_at(number)
    package = upload(served.control, first)
    assert rebuilt(served, package) == Path(first.path).read_bytes()
    sent_twice = len(served.puts) - len(set(served.puts))
    assert sent_twice == 1


def test_a_connection_may_break_often_if_something_arrives_in_between(
    served: Served, first: Package
) -> None:
    def every_second(server: Served, method: str, path: str) -> None:
        if method == "PUT" and len(server.puts) % 2:
            raise Broken

    served.hook = every_second
    package = upload(served.control, first)
    assert rebuilt(served, package) == Path(first.path).read_bytes()


def test_after_three_attempts_without_progress_it_gives_up(served: Served, first: Package) -> None:
    served.hook = break_at(1, times=100)
    with pytest.raises(AcceleratorUnavailable):
        upload(served.control, first)
    assert len(served.puts) == 3


def test_an_absent_accelerator_is_a_typed_error(tmp_path: Path, first: Package) -> None:
    with Store(tmp_path / "store", PLENTY) as store:
        server = Served(store)
        server.stop()
        with pytest.raises(AcceleratorUnavailable, match=str(server.control.endpoint)):
            upload(server.control, first)


def test_an_answer_that_is_lost_does_no_harm(served: Served, first: Package) -> None:
    lost: list[str] = []

    def lose(server: Served, method: str, path: str) -> None:
        if method == "PUT" and not lost:
            lost.append(path)
            blob = next(span for digest, span in first.spans().items() if f"/{digest}?" in path)
            data = bytearray(blob[1])
            first.read_into(blob[0], memoryview(data))
            server.store.append(path.rsplit("/", maxsplit=1)[-1].partition("?")[0], 0, data[:CHUNK])
            raise Broken

    served.hook = lose
    package = upload(served.control, first)
    assert len(set(served.puts)) == len(served.puts)
    assert rebuilt(served, package) == Path(first.path).read_bytes()


def test_an_upload_goes_on_after_the_accelerator_restarted(tmp_path: Path, first: Package) -> None:
    with Store(tmp_path / "store", PLENTY) as store:
        server = Served(store)
        server.hook = break_at(4, times=100)
        with pytest.raises(AcceleratorUnavailable):
            upload(server.control, first)
        server.stop()
    with Store(tmp_path / "store", PLENTY) as store:
        again = Served(store, port=server.server_address[1])
        package = upload(server.control, first)
        again.stop()
        assert not set(again.puts) & set(server.puts[:3])
        assert rebuilt(again, package) == Path(first.path).read_bytes()


def test_two_clients_with_one_package_both_end_well(
    served: Served, paths: tuple[Path, Path]
) -> None:
    start, ends = threading.Barrier(2, timeout=10), []

    def work() -> None:
        with Package.open(paths[0]) as package:
            start.wait()
            ends.append(upload(served.control, package))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ends) == 2
    assert rebuilt(served, ends[0]) == paths[0].read_bytes()


def test_bytes_that_somebody_else_sent_wrongly_are_replaced(served: Served, first: Package) -> None:
    offer = served.store.begin(first.manifest.to_json(), first.signings())
    for blob in offer.missing:
        served.store.append(blob.digest, 0, bytes(min(CHUNK, blob.size - 1)))
    package = upload(served.control, first)
    assert rebuilt(served, package) == Path(first.path).read_bytes()


def test_a_damaged_file_is_not_sent_over_and_over(
    served: Served, tmp_path: Path, first: Package
) -> None:
    copy = tmp_path / "damaged.eipack"
    data = bytearray(Path(first.path).read_bytes())
    digest = max(first.manifest.entries, key=lambda entry: entry.nbytes).digest
    data[first.spans()[digest][0]] ^= 1
    copy.write_bytes(data)
    with Package.open(copy) as package, pytest.raises(DigestMismatch, match=digest):
        upload(served.control, package)
    assert len([line for line in served.puts if digest in line]) == 2


def test_a_package_that_does_not_fit_says_both_numbers(tmp_path: Path, first: Package) -> None:
    with Store(tmp_path / "store", 12345) as store:
        server = Served(store)
        with pytest.raises(AcceleratorFull, match=r"needs \d+ more bytes, and 12345 of its 12345"):
            upload(server.control, first)
        server.stop()
        assert server.puts == []


def test_a_package_that_is_not_trusted_there_is_not_sent(tmp_path: Path, first: Package) -> None:
    with Store(tmp_path / "store", PLENTY, trust=SigningKey.generate().public) as store:
        server = Served(store)
        with pytest.raises(UntrustedPackage):
            upload(server.control, first)
        server.stop()
        assert len(server.requests) == 1


def test_progress_counts_from_nothing_to_all_of_it(served: Served, first: Package) -> None:
    seen: list[tuple[int, int]] = []
    served.hook = break_at(3)
    upload(served.control, first, lambda sent, total: seen.append((sent, total)))
    whole = sum(size for _, size in first.spans().values())
    assert seen == sorted(seen)
    assert seen[0] == (0, whole)
    assert seen[-1] == (whole, whole)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"package": "x"},
        {"package": "0" * 64, "missing": []},
        {"package": "ID", "missing": [{"digest": "blake3:0", "size": 5, "have": 0}]},
        {"package": "ID", "missing": [{"digest": "DIGEST", "size": 5, "have": -1}]},
        {"package": "ID", "missing": [{"digest": "DIGEST", "size": 1 << 40, "have": 0}]},
    ],
)
def test_an_odd_answer_is_a_typed_error(served: Served, first: Package, answer: Any) -> None:
    text = msgspec.json.encode(answer).decode()
    text = text.replace("ID", package_id(first.manifest.to_json()))
    text = text.replace("DIGEST", first.manifest.entries[0].digest)
    served.hook = lambda server, method, path: msgspec.Raw(text.encode())
    with pytest.raises(ProtocolError, match=str(served.control.endpoint)):
        upload(served.control, first)
    assert served.puts == []


def test_the_deadline_of_a_commit_grows_with_the_package(first: Package) -> None:
    seen: list[float] = []

    class Recording(Control):
        def json(self, method: str, path: str, document: Any = None) -> Any:
            seen.append(self.timeout_s)
            return {"package": package_id(first.manifest.to_json()), "missing": []}

    upload(attrs.evolve(Recording(Endpoint("127.0.0.1")), timeout_s=3), first)
    assert seen[0] == 3 < seen[1]
