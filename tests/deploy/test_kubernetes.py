"""The manifests: valid by Kubernetes' schemas, hardened, and their commands work as they stand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from eipack_eia.endpoint import Endpoint
from eipack_eia.server.access import Access
from markdown_it import MarkdownIt

from .rig import DEPLOY, TOKEN, Root, asked, certificate, public_key, running

FOLDER = DEPLOY / "kubernetes"
KINDS = ["accelerator", "package"]
VERSIONS = ["1.30", "1.37"]


def documents(kind: str) -> Iterator[dict[str, Any]]:
    """Return what the base of a kind is made of."""
    base = FOLDER / kind / "base"
    for name in yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((base / name).read_text())


def rendered(overlay: Path) -> list[dict[str, Any]]:
    """Return what kustomize makes of an overlay."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which renders overlays, is not on the PATH")
    words = [kubectl, "kustomize", str(overlay)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pod(kind: str) -> dict[str, Any]:
    (deployment,) = (one for one in documents(kind) if one["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def served(kind: str) -> dict[str, Any]:
    (container,) = pod(kind)["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_base_is_valid(kind: str, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for document in documents(kind):
        assert schemas.validate(document, version, strict=True)


@pytest.mark.parametrize("overlay", ["base", "gpu"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_kustomize_makes_is_valid(kind: str, overlay: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    made = rendered(FOLDER / kind / overlay)
    assert sorted(one["kind"] for one in made) == ["Deployment", "Service"]
    for document in made:
        assert schemas.validate(document, VERSIONS[-1], strict=True)


def test_a_mistake_in_a_manifest_is_found() -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    (deployment,) = (one for one in documents("package") if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(deployment, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_the_pod_asks_for_one_and_the_command_uses_it(kind: str) -> None:
    (deployment,) = (one for one in rendered(FOLDER / kind / "gpu") if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["args"][0].endswith("=cuda:0")
    assert container["args"][1:] == served(kind)["args"][1:]
    assert container["image"].endswith(":1-cuda")


def test_the_overlay_of_the_page_has_a_name_and_labels_of_its_own(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "howto" / "kubernetes.md").read_text()
    fences = [one.content for one in MarkdownIt().parse(page) if one.info == "yaml"]
    (overlay,) = (one for one in fences if "kind: Kustomization" in one)
    shutil.copytree(FOLDER, tmp_path / "eipack" / "deploy" / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(overlay)
    service, deployment = sorted(rendered(tmp_path), key=lambda one: one["kind"], reverse=True)
    assert service["metadata"]["name"] == "eipack-package-resnet18"
    assert service["spec"]["selector"]["app.kubernetes.io/instance"] == "resnet18"
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"] == service["spec"]["selector"]
    assert template["spec"]["containers"][0]["image"] == "registry.example.com/resnet18:7"


@pytest.mark.parametrize("kind", KINDS)
def test_names_within_a_manifest_agree(kind: str) -> None:
    service, deployment = sorted(documents(kind), key=lambda one: one["kind"], reverse=True)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    ports = {one["name"] for one in served(kind)["ports"]}
    probes = [served(kind)[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness")]
    probes.append(served(kind)["livenessProbe"]["httpGet"])
    assert {one["port"] for one in probes} | {service["spec"]["ports"][0]["targetPort"]} == ports
    volumes = {one["name"] for one in pod(kind)["volumes"]}
    containers = [*pod(kind)["initContainers"], served(kind)]
    mounted = {one["name"] for container in containers for one in container["volumeMounts"]}
    assert mounted == volumes


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_may_do_nothing_that_it_need_not(kind: str) -> None:
    spec = pod(kind)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_named_and_never_written_down(kind: str) -> None:
    secrets = [one["secret"] for one in pod(kind)["volumes"] if "secret" in one]
    assert secrets == [{"secretName": "eipack-tokens"}, {"secretName": "eipack-tls"}]
    assert all("PRIVATE KEY" not in path.read_text() for path in FOLDER.rglob("*.yaml"))


def test_a_probe_by_the_address_of_a_pod_is_let_in(tmp_path: Path) -> None:
    root = Root(tmp_path)
    cert, key = certificate()
    root.write("/tokens", TOKEN)
    root.write("/tls.crt", cert)
    root.write("/tls.key", key)
    access = Access.plan(
        Endpoint("0.0.0.0", 8000, scheme="https"),
        token_file=root.at("/tokens"),
        cert=root.at("/tls.crt"),
        key=root.at("/tls.key"),
    )
    assert access.host_allowed("10.1.2.3:8000")
    assert access.host_allowed("eipack-package:8000")
    assert not access.host_allowed("elsewhere.example.com")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_of_a_pod_serve_and_its_probes_pass(kind: str, tmp_path: Path) -> None:
    root = Root(tmp_path)
    cert, key = certificate()
    # modes as a kubelet gives them to the files of a volume for a group
    root.write("/secrets/tokens", f"{TOKEN}\n", 0o440)
    root.write("/tls/tls.crt", cert, 0o440)
    root.write("/tls/tls.key", key, 0o440)
    root.write("/trusted/trusted.pem", public_key(), 0o644)
    root.package("/models/model.eipack")
    root.at("/run/eipack").mkdir(parents=True)
    (before,) = pod(kind)["initContainers"]
    subprocess.run(root.words([*before["command"], *before["args"]]), check=True)
    container = served(kind)
    environment = {one["name"]: str(root.at(one["value"])) for one in container["env"]}
    words = root.words([*container["command"], *container["args"]])
    with running(words, environment) as (process, said):
        for name in ("startup", "readiness", "liveness"):
            probe = container[f"{name}Probe"]["httpGet"]
            assert probe["scheme"] == "HTTPS"
            asked(f"{said['endpoint']}{probe['path']}")
        assert asked(f"{said['endpoint']}/v2", Authorization=f"Bearer {TOKEN}")["name"]
        process.terminate()
        assert process.wait(pod(kind)["terminationGracePeriodSeconds"]) == 0
