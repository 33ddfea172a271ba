"""A package in a real Ray Serve, as its how-to page says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import torch
import tritonclient.http

pytest.importorskip(
    "ray.serve", reason="Ray Serve is not installed here; run make test-serving-ray"
)

import ray
from eipack_serving import BadRequest, Unavailable
from eipack_serving.rayserve import PackageDeployment, deployment
from ray import serve

import eipack

from .conftest import attached_accelerator
from .pages import Ask, Page, storm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves processes to its daemons
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Page:
    return Page.of("serving-ray-serve.md", tmp_path_factory.mktemp("ray"), "8000").prepare()


@pytest.fixture(scope="module")
def cluster(page: Page) -> Iterator[None]:
    ray.init(
        "local",  # whatever other cluster this host has
        num_cpus=2,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": page.ports["8000"]})
        yield
        serve.shutdown()
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def url(page: Page, cluster: None) -> str:
    with chdir(page.folder):
        app: dict[str, Any] = {}
        exec(Path("app.py").read_text(), app)
    serve.run(app["app"])
    return f"http://127.0.0.1:{page.ports['8000']}"


def test_the_calls_of_the_page_agree_with_the_eager_model(page: Page, url: str) -> None:
    names = page.call()
    expected = names["model"](names["x"])
    torch.testing.assert_close(names["y"], expected)
    torch.testing.assert_close(names["z"], expected)


def test_a_thousand_requests_of_eight_clients_agree_with_the_eager_model(
    page: Page, url: str
) -> None:
    @contextmanager
    def connect() -> Iterator[Ask]:
        client = tritonclient.http.InferenceServerClient(url.removeprefix("http://"))

        def ask(x: torch.Tensor) -> torch.Tensor:
            given = tritonclient.http.InferInput("input", list(x.shape), "FP32")
            given.set_data_from_numpy(x.numpy())
            made = client.infer("classifier", [given])
            return torch.from_numpy(made.as_numpy("output").copy())

        try:
            yield ask
        finally:
            client.close()

    assert storm(connect, page.names["model"]) == 1000


def test_the_signature_is_the_metadata(url: str) -> None:
    said = httpx.get(f"{url}/v2/models/classifier").json()
    assert said["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 16]}]
    assert said["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 4]}]
    assert serve.get_app_handle("default").metadata.remote().result() == said


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"shape": [1, 8], "data": [0.5] * 8},
        {"shape": [2, 16]},
        {"datatype": "INT64", "data": [1] * 16},
    ],
    ids=["another name", "another shape", "too little data", "another datatype"],
)
def test_a_bad_request_is_answered_with_400_and_a_reason(
    url: str, changes: dict[str, object]
) -> None:
    tensor = {"name": "input", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16} | changes
    answer = httpx.post(f"{url}/v2/models/classifier/infer", json={"inputs": [tensor]})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_what_is_not_there_is_answered_as_the_protocol_has_it(url: str) -> None:
    assert httpx.get(f"{url}/v2/models/other").status_code == 404
    assert httpx.get(f"{url}/v3").status_code == 404
    assert httpx.get(f"{url}/v2/models/classifier/infer").status_code == 405
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200


def test_a_handle_raises_the_error_of_the_service(url: str) -> None:
    handle = serve.get_app_handle("default")
    with pytest.raises(BadRequest, match="input"):
        handle.infer.remote({"input": torch.rand(2, 8).numpy()}).result()


def test_a_new_user_config_goes_over_to_another_package_without_losing_a_request(
    cluster: None, url: str, tmp_path: Path
) -> None:
    paths, x = [], torch.rand(2, 4)
    for factor in (1.0, 2.0):
        model = torch.nn.Linear(4, 2).eval()
        torch.nn.init.constant_(model.weight, factor)
        torch.nn.init.zeros_(model.bias)
        paths.append(
            str(eipack.export(model, (x,), name="sum").save(tmp_path / f"{factor}.eipack"))
        )

    def run(**config: Any) -> Any:
        app = deployment(paths[0], user_config=config, ray_actor_options={"num_cpus": 0.1})
        return serve.run(app, name="changing", route_prefix="/changing")

    handle = run(file=paths[0])

    def ask() -> float:
        return float(handle.infer.remote({"input": x.numpy()}).result()["output"][0, 0])

    done = Event()
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(lambda: [ask() for _ in iter(done.is_set, True)]) for _ in range(4)]
        run(file=paths[1])
        last = ask()
        done.set()
        answers = [one for future in asking for one in future.result()]
    assert set(answers) == {last / 2, last}
    serve.delete("changing")


def test_an_accelerator_serves_under_ray_and_its_loss_is_answered_with_503(
    page: Page, url: str, tmp_path: Path
) -> None:
    path, x = page.folder / "classifier.eipack", torch.rand(5, 16)
    options = {"name": "Remote", "ray_actor_options": {"num_cpus": 0.1}}
    with attached_accelerator(tmp_path / "store") as target:
        handle = serve.run(deployment(path, target, **options), name="remote", route_prefix="/far")
        outputs = handle.infer.remote({"input": x.numpy()}).result()
        made = torch.from_numpy(outputs["output"].copy())
        torch.testing.assert_close(made, page.names["model"](x))
        assert httpx.get(f"{url}/far/v2/models/classifier/ready").status_code == 200
    tensor = {"name": "input", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
    lost = httpx.post(f"{url}/far/v2/models/classifier/infer", json={"inputs": [tensor]})
    assert (lost.status_code, bool(lost.json()["error"])) == (503, True)
    with pytest.raises(Unavailable):
        handle.infer.remote({"input": x.numpy()}).result()
    serve.delete("remote")


def test_a_replica_whose_service_takes_no_requests_is_unhealthy(page: Page) -> None:
    replica = PackageDeployment({"file": page.folder / "classifier.eipack"})
    replica.check_health()
    replica._service.__exit__()
    with pytest.raises(Unavailable, match="takes no requests"):
        replica.check_health()
