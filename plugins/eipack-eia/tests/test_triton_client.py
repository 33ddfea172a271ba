"""Triton's own HTTP client, as it is, against an accelerator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.http as triton  # type: ignore[import-untyped]
from eipack_eia.client.control import Control
from eipack_eia.client.uploading import upload
from eipack_eia.credentials import read_token
from torch import nn
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

import eipack
from eipack.package import Package

from .conftest import Served, serving  # type: ignore[import-not-found]

# The client is not safe between threads, nor between tests: each makes its own.
Inputs = dict[str, np.ndarray[Any, Any]]


class Several(nn.Module):
    """Inputs and outputs of four dtypes."""

    def forward(
        self, half: torch.Tensor, whole: torch.Tensor, flag: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {
            "half": half * 2,
            "whole": torch.where(flag, whole, -whole),
            "flag": ~flag,
            "total": half.float().sum(1),
        }


INPUTS: Inputs = {
    "half": np.array([[0.5, -1.0, 2.0], [3.0, 4.0, -5.0]], np.float16),
    "whole": np.array([2**62 + 1, -7], np.int64),
    "flag": np.array([True, False]),
}
OUTPUTS: Inputs = {
    "half": INPUTS["half"] * 2,
    "whole": np.array([2**62 + 1, 7], np.int64),
    "flag": np.array([False, True]),
    "total": np.array([1.5, 2.0], np.float32),
}
DATATYPES = {"half": "FP16", "whole": "INT64", "flag": "BOOL", "total": "FP32"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=8)
    package = eipack.export(
        Several().eval(),
        inputs=tuple(torch.from_numpy(INPUTS[name]) for name in ("half", "whole", "flag")),
        dynamic_shapes={name: {0: batch} for name in INPUTS},
        programs=["torchscript"],
        name="triton",
    )
    return package.save(tmp_path_factory.mktemp("packages") / "triton.eipack")


def put(control: Control, path: Path) -> str:
    """Upload the package and return the name of its model."""
    with Package.open(path) as package:
        return f"triton-{upload(control, package)[:8]}"


@pytest.fixture(scope="module")
def open_served(tmp_path_factory: pytest.TempPathFactory, path: Path) -> Iterator[Served]:
    """Serve without a token, with the package uploaded."""
    with serving(tmp_path_factory.mktemp("store"), "--no-token", "--memory-gb", "1") as served:
        put(served.control, path)
        yield served


@pytest.fixture
def client(open_served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(open_served.endpoint.netloc, concurrency=4) as one:
        yield one


@pytest.fixture
def model(client: Any, open_served: Served, path: Path) -> str:
    name = put(open_served.control, path)
    client.load_model(name)
    return name


def inputs(given: Inputs = INPUTS, *, binary: bool = True) -> list[Any]:
    made = []
    for name, array in given.items():
        one = triton.InferInput(name, list(array.shape), DATATYPES[name])
        one.set_data_from_numpy(array, binary_data=binary)
        made.append(one)
    return made


def check(result: Any, expected: Inputs = OUTPUTS) -> None:
    assert {one["name"] for one in result.get_response()["outputs"]} == set(expected)
    for name, array in expected.items():
        found = result.as_numpy(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_the_server_lives_and_is_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


def test_the_server_describes_itself(client: Any) -> None:
    document = client.get_server_metadata()
    assert document["name"] == "eipack-eia"
    assert "binary_tensor_data" in document["extensions"]


def test_the_repository_lists_models_and_whether_they_are_loaded(client: Any, model: str) -> None:
    [entry] = client.get_model_repository_index()
    assert (entry["name"], entry["state"]) == (model, "READY")
    client.unload_model(model)
    [entry] = client.get_model_repository_index()
    assert (entry["name"], entry["state"]) == (model, "UNAVAILABLE")


def test_a_model_is_ready_once_it_is_loaded(client: Any, model: str) -> None:
    assert client.is_model_ready(model)
    assert client.is_model_ready(model, "1")
    client.unload_model(model)
    assert not client.is_model_ready(model)
    assert not client.is_model_ready("other")


def test_a_model_describes_its_tensors(client: Any, model: str) -> None:
    document = client.get_model_metadata(model)
    assert document["inputs"] == [
        {"name": "half", "datatype": "FP16", "shape": [-1, 3]},
        {"name": "whole", "datatype": "INT64", "shape": [-1]},
        {"name": "flag", "datatype": "BOOL", "shape": [-1]},
    ]
    assert {one["name"]: one["datatype"] for one in document["outputs"]} == DATATYPES


def test_tensors_travel_in_binary(client: Any, model: str) -> None:
    check(client.infer(model, inputs()))


def test_tensors_travel_in_json(client: Any, model: str) -> None:
    given: Inputs = {name: INPUTS[name] for name in ("whole", "flag")}
    # Triton's client has no FP16 in JSON
    made = inputs(given, binary=False) + inputs({"half": INPUTS["half"]})
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    result = client.infer(model, made, outputs=wanted)
    assert all("data" in one for one in result.get_response()["outputs"])
    check(result)


def test_only_the_outputs_that_are_asked_for_come(client: Any, model: str) -> None:
    wanted = [
        triton.InferRequestedOutput("total", binary_data=True),
        triton.InferRequestedOutput("flag", binary_data=False),
    ]
    result = client.infer(model, inputs(), outputs=wanted)
    check(result, {name: OUTPUTS[name] for name in ("total", "flag")})


def test_the_size_of_a_batch_may_change_from_call_to_call(client: Any, model: str) -> None:
    for rows in (1, 2, 1, 1, 2, 2):
        given = {name: array[:rows] for name, array in INPUTS.items()}
        check(client.infer(model, inputs(given)), {k: v[:rows] for k, v in OUTPUTS.items()})


def test_the_id_of_a_request_comes_back(client: Any, model: str) -> None:
    for number in ("first", "second", "second"):
        result = client.infer(model, inputs(), request_id=number)
        assert result.get_response()["id"] == number


def test_several_requests_may_be_under_way(client: Any, model: str) -> None:
    asked = [client.async_infer(model, inputs(), request_id=str(number)) for number in range(8)]
    for number, one in enumerate(asked):
        result = one.get_result()
        assert result.get_response()["id"] == str(number)
        check(result)


def test_statistics_count_the_calls(client: Any, model: str) -> None:
    def count() -> int:
        [found] = client.get_inference_statistics(model)["model_stats"]
        assert found["inference_stats"]["success"]["count"] == found["inference_count"]
        return int(found["inference_count"])

    before = count()
    for _ in range(3):
        client.infer(model, inputs())
    assert count() == before + 3


def failure(client: Any, model: str, given: list[Any], **options: Any) -> str:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, given, **options)
    return str(caught.value)


def test_a_request_that_does_not_fit_says_why(client: Any, model: str) -> None:
    wrong = INPUTS | {"whole": np.array([[1], [2]], np.int64)}
    assert "[400] input 'whole': " in failure(client, model, inputs(wrong))
    few = {"half": INPUTS["half"]}
    said = f"[400] inputs half were given; {model} takes flag, half, whole"
    assert failure(client, model, inputs(few)) == said
    wanted = [triton.InferRequestedOutput("other")]
    assert "there is no output 'other'" in failure(client, model, inputs(), outputs=wanted)
    check(client.infer(model, inputs()))


def test_an_unknown_model_is_named(client: Any) -> None:
    said = "[404] there is no model 'other' here"
    assert failure(client, "other", inputs()) == said


def test_a_deadline_travels_in_microseconds(client: Any, model: str) -> None:
    assert "it was not run" in failure(client, model, inputs(), timeout=1)
    check(client.infer(model, inputs(), timeout=10_000_000))


def test_what_the_accelerator_does_not_offer_is_told(client: Any, model: str) -> None:
    compressed = {"request_compression_algorithm": "gzip"}
    assert "compressed bodies are not accepted" in failure(client, model, inputs(), **compressed)
    wanted = [triton.InferRequestedOutput("total", class_count=2)]
    assert "classification extension" in failure(client, model, inputs(), outputs=wanted)
    with pytest.raises(InferenceServerException, match="upload a package with eipack"):
        client.load_model(model, config="{}")
    check(client.infer(model, inputs()))


def test_a_packed_answer_may_be_asked_for_and_comes_as_it_is(client: Any, model: str) -> None:
    check(client.infer(model, inputs(), response_compression_algorithm="gzip"))


def test_the_token_is_shown_as_a_header(accelerator: Served, path: Path) -> None:
    name = put(accelerator.control, path)
    token = read_token(Path(accelerator.said["token_file"]))
    shown = {"Authorization": f"Bearer {token}"}
    with triton.InferenceServerClient(accelerator.endpoint.netloc) as client:
        assert client.is_server_live()
        client.load_model(name, headers=shown)
        check(client.infer(name, inputs(), headers=shown))
        with pytest.raises(InferenceServerException, match=re.escape("[403] the token is missing")):
            client.infer(name, inputs())
        client.unload_model(name, headers=shown)


def test_a_client_goes_on_when_the_server_was_started_anew(tmp_path: Path, path: Path) -> None:
    store = tmp_path / "store"
    with serving(store, "--no-token") as served:
        name, address = put(served.control, path), served.endpoint.netloc
        client = triton.InferenceServerClient(address)
        client.load_model(name)
        check(client.infer(name, inputs()))
    with client, serving(store, "--no-token", "--listen", address):
        client.load_model(name)
        check(client.infer(name, inputs()))
