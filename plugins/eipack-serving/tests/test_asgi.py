"""The ASGI application over real sockets: parity, many clients, errors, any target."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as oip_client
from eipack_serving import PackageService
from eipack_serving.asgi import application, lifespan
from tritonclient.utils import InferenceServerException

import eipack
from eipack.errors import UntrustedPackage
from eipack.session import Session

from .conftest import Packed, attached_accelerator, from_clients, listening


@pytest.fixture(scope="module")
def served(packed: Packed) -> Iterator[tuple[str, PackageService]]:
    service = PackageService(packed.path)
    with listening(application(service)) as address:
        yield address, service


@pytest.fixture
def address(served: tuple[str, PackageService]) -> str:
    return served[0]


def as_json(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": name, "datatype": "FP32", "shape": list(one.shape), "data": one.tolist()}
            for name, one in inputs.items()
        ]
    }


def arrays(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    dtypes = {"FP32": "float32", "INT64": "int64"}
    return {
        one["name"]: np.array(one["data"], dtypes[one["datatype"]]).reshape(one["shape"])
        for one in answer["outputs"]
    }


def triton_inputs(inputs: dict[str, np.ndarray]) -> list[oip_client.InferInput]:
    made = []
    for name, array in inputs.items():
        made.append(oip_client.InferInput(name, list(array.shape), "FP32"))
        made[-1].set_data_from_numpy(array, binary_data=True)
    return made


def ask(client: oip_client.InferenceServerClient, packed: Packed, rows: int, seed: int) -> None:
    inputs = packed.inputs(rows, seed)
    result = client.infer("scorer", triton_inputs(inputs))
    packed.check(inputs, {name: result.as_numpy(name) for name in ("scores", "best")})


def ask_many(place: str, packed: Packed, count: int, clients: int, most_rows: int = 16) -> None:
    """Make requests from several clients, each of them on a thread of its own."""

    def one_client(number: int) -> None:
        with oip_client.InferenceServerClient(place) as client:
            for seed in range(number, count, clients):
                ask(client, packed, 1 + seed % most_rows, seed)

    from_clients(clients, clients, one_client)


def test_json_is_answered_in_json(address: str, packed: Packed) -> None:
    inputs = packed.inputs(3)
    answer = httpx.post(f"{address}/v2/models/scorer/infer", json=as_json(inputs) | {"id": "7"})
    assert answer.status_code == 200
    document = answer.json()
    assert (document["id"], document["model_name"], document["model_version"]) == (
        "7",
        "scorer",
        "1",
    )
    packed.check(inputs, arrays(document))


def test_an_unmodified_client_sends_and_gets_binary_tensors(address: str, packed: Packed) -> None:
    with oip_client.InferenceServerClient(address.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("scorer")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert client.get_model_metadata("scorer", "1")["inputs"][0]["shape"] == [-1, 8]
        for rows in (1, 7, 16):
            ask(client, packed, rows, rows)


def test_outputs_that_are_asked_for_come_alone(address: str, packed: Packed) -> None:
    inputs = packed.inputs()
    asked = as_json(inputs) | {"outputs": [{"name": "best"}]}
    document = httpx.post(f"{address}/v2/models/scorer/infer", json=asked).json()
    [only] = document["outputs"]
    assert only["data"] == packed.expected(inputs)["best"].reshape(-1).tolist()


def test_a_thousand_requests_of_eight_clients_are_all_right(address: str, packed: Packed) -> None:
    ask_many(address.removeprefix("http://"), packed, 1000, 8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no inference request"),
        (b"\xff\xfe", "no inference request"),
        (b"{}", "inputs"),
        (b'{"inputs": []}', "scorer takes shift, x"),
        (
            (
                b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 8], "data": [1]},'
                b' {"name": "shift", "datatype": "FP32", "shape": [2, 4], "data": [1]}]}'
            ),
            "do not fit FP32",
        ),
    ],
)
def test_a_bad_request_is_told_in_json(address: str, content: bytes, said: str) -> None:
    answer = httpx.post(f"{address}/v2/models/scorer/infer", content=content)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_wrong_shape_is_a_bad_request(address: str, packed: Packed) -> None:
    inputs = {**packed.inputs(), "x": np.zeros((2, 9), "float32")}
    answer = httpx.post(f"{address}/v2/models/scorer/infer", json=as_json(inputs))
    assert answer.status_code == 400
    assert "9" in answer.json()["error"]
    with oip_client.InferenceServerClient(address.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException, match="400"):
            client.infer("scorer", triton_inputs(inputs))


@pytest.mark.parametrize("length", ["-1", "x", "9999"])
def test_a_length_of_json_that_cannot_be_is_refused(address: str, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    answer = httpx.post(f"{address}/v2/models/scorer/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400


def test_what_is_not_there_is_told_in_json(address: str) -> None:
    for path in ("v2/models/other", "v2/models/scorer/versions/2", "v2/models/other/ready", "v3"):
        answer = httpx.get(f"{address}/{path}")
        assert answer.status_code == 404
        assert "error" in answer.json()
    assert httpx.get(f"{address}/v2/models/scorer/infer").status_code == 405


def test_a_draining_service_answers_503_and_is_not_ready(packed: Packed) -> None:
    service = PackageService(packed.path)
    with listening(application(service)) as address:
        assert httpx.get(f"{address}/v2/health/ready").status_code == 200
        service.drain()
        assert httpx.get(f"{address}/v2/health/ready").status_code == 503
        assert httpx.get(f"{address}/v2/models/scorer/ready").status_code == 503
        assert httpx.get(f"{address}/v2/health/live").status_code == 200
        answer = httpx.post(f"{address}/v2/models/scorer/infer", json=as_json(packed.inputs()))
        assert answer.status_code == 503
        assert "draining" in answer.json()["error"]


class Slow(torch.nn.Module):
    """It takes some hundredths of a second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(512, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(200):
            y = self.linear(y)
        return y


def test_what_an_overloaded_accelerator_refuses_is_answered_with_503(tmp_path: Path) -> None:
    x = torch.ones(1, 512)
    package = eipack.export(Slow().eval(), (x,), method="script", programs=["torchscript"])
    path = package.save(tmp_path / "slow.eipack")
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 512], "data": x.tolist()}]}
    statuses: list[int] = []
    with attached_accelerator(tmp_path / "store", "--queue", "1") as target:
        service = PackageService(path, target)
        with listening(application(service)) as address:
            infer = f"{address}/v2/models/{service.name}/infer"

            def ask_once(_: int) -> None:
                answer = httpx.post(infer, json=request, timeout=60)
                statuses.append(answer.status_code)
                assert answer.status_code == 200 or "wait already" in answer.json()["error"]

            from_clients(16, 8, ask_once)
    assert set(statuses) == {200, 503}


def test_the_application_starts_its_services_and_closes_them(packed: Packed) -> None:
    service = PackageService(packed.path)
    with listening(application(service)):
        assert service.ready
    assert not service.ready
    assert "closed" in repr(service)


def test_it_runs_on_an_accelerator(packed: Packed, accelerator: str) -> None:
    with listening(application(PackageService(packed.path, accelerator))) as address:
        ask_many(address.removeprefix("http://"), packed, 100, 4)


def test_it_can_be_mounted_in_an_application_of_fastapi(packed: Packed) -> None:
    fastapi = pytest.importorskip("fastapi")
    service = PackageService(packed.path)
    app = fastapi.FastAPI(lifespan=lifespan(service))
    app.mount("/models", application(service))

    @app.get("/own")
    async def own() -> dict[str, list[int]]:
        outputs = await service.ainfer(packed.inputs())
        return {"best": outputs["best"].reshape(-1).tolist()}

    with listening(app) as address:
        assert service.ready
        inputs = packed.inputs()
        answer = httpx.post(f"{address}/models/v2/models/scorer/infer", json=as_json(inputs))
        packed.check(inputs, arrays(answer.json()))
        best = packed.expected(inputs)["best"].reshape(-1).tolist()
        assert httpx.get(f"{address}/own").json() == {"best": best}
        assert httpx.get(f"{address}/models/v2/models/none").status_code == 404


def test_several_packages_are_served_by_their_names(packed: Packed, tmp_path: Path) -> None:
    other = eipack.export(torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),), name="other")
    services = PackageService(packed.path), PackageService(other.save(tmp_path / "o.eipack"))
    with listening(application(*services)) as address:
        names = [
            httpx.get(f"{address}/v2/models/{one}").json()["name"] for one in ("scorer", "other")
        ]
    assert names == ["scorer", "other"]


def test_two_packages_of_one_name_are_refused(packed: Packed) -> None:
    with pytest.raises(ValueError, match="one name"):
        application(PackageService(packed.path), PackageService(packed.path))


def test_a_package_that_cannot_be_opened_keeps_the_application_from_starting(
    packed: Packed, fresh_home: Path
) -> None:
    async def start() -> None:
        async with lifespan(service)(None):
            raise AssertionError("it has started")

    service = PackageService(packed.path)  # another home trusts another key
    with pytest.raises(UntrustedPackage):
        asyncio.run(start())
    assert "closed" in repr(service)


def test_a_client_that_leaves_does_not_keep_it_from_draining(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on = Event(), Event()
    run_flat = Session.run_flat

    def slowly(self: Session, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        running.set()
        assert go_on.wait(20)
        return run_flat(self, *leaves)

    async def leave(service: PackageService) -> None:
        task = asyncio.create_task(service.ainfer(packed.inputs()))
        queued = asyncio.create_task(service.ainfer(packed.inputs()))
        await asyncio.to_thread(running.wait, 20)
        for one in (task, queued):
            one.cancel()
        await asyncio.gather(task, queued, return_exceptions=True)

    with PackageService(packed.path) as service:
        monkeypatch.setattr(Session, "run_flat", slowly)
        asyncio.run(leave(service))
        assert not service.drain(within_s=0.05), "the call still runs"
        Thread(target=go_on.set).start()
        assert service.drain(within_s=20)
