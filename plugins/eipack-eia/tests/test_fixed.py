"""A server whose models are fixed: loaded before it answers, and nothing else is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from eipack_eia.server.access import Access, Rights, Tokens
from eipack_eia.server.fixed import Fixed
from eipack_eia.server.http import Request, Response
from eipack_eia.server.models import Models
from eipack_eia.server.routes import Routes
from eipack_eia.server.scheduler import Scheduler

import eipack
from eipack.errors import (
    AcceleratorDenied,
    AcceleratorOverloaded,
    OptionRefused,
    PackageIOError,
    ProgramNotFound,
)
from eipack.target import Target

CPU = Target("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = eipack.export(torch.nn.Linear(2, 3).eval(), (torch.ones(1, 2),), name="linear")
    return package.save(tmp_path_factory.mktemp("fixed") / "linear.eipack")


@pytest.fixture
def models(path: Path) -> Models:
    return Fixed({"first": str(path), "second": str(path)}).load(CPU, None, None, 1)


def routes(models: Models, rights: Rights) -> Routes:
    access = Access(
        Tokens.of("a-token", rights),
        None,
        None,
        client_certificates=False,
        insecure=False,
        hosts=frozenset({"127.0.0.1"}),
        by_any_address=False,
    )
    return Routes(models, None, Scheduler(), access, None)


def ask(served: Routes, method: str, path: str) -> Response:
    headers = {"host": "127.0.0.1", "authorization": "Bearer a-token"}
    answer = served.answer(Request(method, path, {}, headers, memoryview(b""), 0, True, 0))
    assert isinstance(answer, Response)
    return answer


def test_its_models_have_the_names_that_were_given(models: Models) -> None:
    assert [model.name for model in models.resident()] == ["first", "second"]
    assert [known.name for known in models.known()] == ["first", "second"]
    models.find("second").session.run_flat(torch.ones(1, 2))


def test_its_models_stay(models: Models) -> None:
    with pytest.raises(AcceleratorOverloaded, match="in use"):
        models.unload("first")


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "v2/eipack/packages"),
        ("POST", "v2/eipack/packages/x/commit"),
        ("PUT", "v2/eipack/blobs/x"),
        ("POST", "v2/eipack/sessions"),
        ("DELETE", "v2/eipack/sessions/x"),
        ("POST", "v2/repository/models/first/load"),
        ("POST", "v2/repository/models/first/unload"),
    ],
)
def test_what_changes_models_is_refused_whatever_the_token_allows(
    models: Models, method: str, route: str
) -> None:
    with pytest.raises(AcceleratorDenied, match="models are fixed"):
        ask(routes(models, Rights.INFER | Rights.UPLOAD), method, route)


def test_it_does_not_describe_itself_as_an_accelerator(models: Models) -> None:
    answer = ask(routes(models, Rights.INFER), "GET", "v2")
    body = bytes(answer.body[0])
    assert b'"eipack-serve"' in body
    assert b"accelerator" not in body
    assert b"eipack_packages" not in body


def test_a_file_that_is_missing_is_told_before_it_serves(tmp_path: Path) -> None:
    with pytest.raises(PackageIOError, match=r"missing\.eipack"):
        Fixed({"missing": str(tmp_path / "missing.eipack")}).load(CPU, None, None, None)


def test_options_reach_the_engine(path: Path) -> None:
    with pytest.raises(OptionRefused):
        Fixed({"first": str(path)}, {"options": {"cpu": {"no_such": 1}}}).load(
            CPU, None, None, None
        )


def test_a_model_that_it_has_not_is_not_found(models: Models) -> None:
    with pytest.raises(ProgramNotFound, match="'third'"):
        ask(routes(models, Rights.INFER), "GET", "v2/models/third")
