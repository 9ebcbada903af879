"""The manifests are valid as they stand, and each way to break them is found and named by its field."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import kustomize, render
from k8s.manifests import Finding, Json, Manifests, Resource
from k8s.validate import FOLDER, KUSTOMIZATIONS, check

MISSING = "nothing stands there"
HEAD = ("spec", "headGroupSpec")
SHARDS = ("spec", "workerGroupSpecs", 0)
GATEWAYS = ("spec", "workerGroupSpecs", 1)
CONTAINER = ("template", "spec", "containers", 0)
SERVE = ("spec", "template", "spec", "containers", 0)

BREAKAGES: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    # kind of the broken manifest, what is broken, the wrong value, the field that a finding must name
    ("RayCluster", (*HEAD, "rayStartParams", "num-cpus"), "1", "spec.headGroupSpec.rayStartParams.num-cpus"),
    ("RayCluster", (*HEAD, "rayStartParams", "num-cpus"), 0, "spec.headGroupSpec.rayStartParams.num-cpus"),
    ("RayCluster", ("spec", "authOptions", "mode"), "disabled", "spec.authOptions.mode"),
    ("RayCluster", ("spec", "authOptions", "mode"), "tokens", "spec.authOptions.mode"),
    ("RayCluster", ("spec", "rayVersion"), "2.51.0", "spec.rayVersion"),
    ("RayCluster", ("spec", "authOptions", "secretName"), "nobody-made-it", "spec.authOptions.secretName"),
    ("RayCluster", (*SHARDS, "replicas"), "two", "spec.workerGroupSpecs[0].replicas"),
    ("RayCluster", (*SHARDS, "replicas"), 3, "spec.template.spec.containers[0].args"),
    ("RayCluster", (*SHARDS, "replica"), 2, "spec.workerGroupSpecs[0]"),
    ("RayCluster", (*SHARDS, "rayStartParams", "resources"), "{}", "spec.workerGroupSpecs[0].rayStartParams.resources"),
    (
        "RayCluster",
        (*SHARDS, *CONTAINER, "image"),
        "fusion-cluster/flights:latest",
        "spec.workerGroupSpecs[0].template.spec.containers[0].image",
    ),
    (
        "RayCluster",
        (*SHARDS, *CONTAINER, "image"),
        "registry:5000/flights",
        "spec.workerGroupSpecs[0].template.spec.containers[0].image",
    ),
    (
        "RayCluster",
        (*SHARDS, *CONTAINER, "resources", "limits", "memory"),
        "8Gi",
        "spec.workerGroupSpecs[0].template.spec.containers[0].resources.requests.memory",
    ),
    (
        "RayCluster",
        (*SHARDS, *CONTAINER, "name"),
        "proxy",
        "spec.workerGroupSpecs[0].template.spec.containers[0].name",
    ),
    (
        "RayCluster",
        (*SHARDS, "template", "spec", "restartPolicy"),
        "Always",
        "spec.workerGroupSpecs[0].template.spec.restartPolicy",
    ),
    (
        "RayCluster",
        (*SHARDS, *CONTAINER, "securityContext", "allowPrivilegeEscalation"),
        True,
        "spec.workerGroupSpecs[0].template.spec.containers[0].securityContext.allowPrivilegeEscalation",
    ),
    (
        "RayCluster",
        (*GATEWAYS, *CONTAINER, "readinessProbe"),
        MISSING,
        "spec.workerGroupSpecs[1].template.spec.containers[0].readinessProbe.grpc",
    ),
    (
        "RayCluster",
        (*GATEWAYS, *CONTAINER, "readinessProbe", "grpc", "port"),
        50052,
        "spec.workerGroupSpecs[1].template.spec.containers[0].readinessProbe.grpc.port",
    ),
    (
        "RayCluster",
        (*GATEWAYS, *CONTAINER, "env", 0, "valueFrom", "secretKeyRef", "key"),
        "password",
        "spec.workerGroupSpecs[1].template.spec.containers[0].env[0].valueFrom.secretKeyRef",
    ),
    (
        "RayCluster",
        (*GATEWAYS, "template", "metadata", "labels", "fusion-cluster/role"),
        "door",
        "spec.workerGroupSpecs[1].template.metadata.labels",
    ),
    ("RayCluster", (*GATEWAYS, "resources"), MISSING, "spec.workerGroupSpecs"),
    ("Service", ("spec", "clusterIP"), MISSING, "spec.clusterIP"),
    ("Service", ("spec", "ports", 0, "targetPort"), 50052, "spec.ports[0].targetPort"),
    ("Service", ("spec", "ports", 0, "port"), "grpc", "spec.ports[0].port"),
    ("Service", ("spec", "selector"), {"fusion-cluster/app": "flights"}, "spec.selector"),
    ("Deployment", (*SERVE, "livenessProbe"), MISSING, "spec.template.spec.containers[0].livenessProbe"),
    (
        "Deployment",
        (*SERVE, "args", 0),
        "fusion-cluster serve x:app --shards 2",
        "spec.template.spec.containers[0].args",
    ),
    (
        "Deployment",
        (*SERVE, "volumeMounts", 0, "name"),
        "none",
        "spec.template.spec.containers[0].volumeMounts[0].name",
    ),
    ("Deployment", (*SERVE, "livenesProbe"), {}, "spec.template.spec.containers[0]"),
    ("PodDisruptionBudget", ("spec", "minAvailable"), "50%", "spec.minAvailable"),
    ("PodDisruptionBudget", ("spec", "minAvailable"), 2, "spec.minAvailable"),
    ("PodDisruptionBudget", ("spec", "selector", "matchLabels"), {"a": "b"}, "spec.selector.matchLabels"),
    ("NetworkPolicy", ("spec", "egress", 1), MISSING, "spec.egress"),
    ("NetworkPolicy", ("apiVersion",), "networking.k8s.io/v9", "kind"),
]


@cache
def manifests_of(name: str) -> Manifests:
    return render.render(FOLDER / name)[0]


def findings_of(manifests: Manifests) -> list[Finding]:
    return [finding for done in check(manifests) for finding in done.findings]


def broken(kind: str, position: tuple[str | int, ...], value: object) -> Manifests:
    bodies = [copy.deepcopy(resource.body) for resource in manifests_of("base").resources]
    holder: Any = next(body for body in bodies if body["kind"] == kind)
    for step in position[:-1]:
        holder = holder[step]
    if value is MISSING:
        del holder[position[-1]]
    else:
        holder[position[-1]] = value
    return Manifests(tuple(Resource(body) for body in bodies))


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_the_manifests_pass(name: str) -> None:
    manifests = manifests_of(name)
    assert findings_of(manifests) == []
    assert {resource.kind for resource in manifests.resources} >= {
        "RayCluster",
        "Service",
        "Deployment",
        "NetworkPolicy",
    }


@pytest.mark.parametrize(
    ("kind", "position", "value", "field"),
    BREAKAGES,
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else str(part)[:24],
)
def test_a_broken_manifest_fails_with_its_field_named(
    kind: str, position: tuple[str | int, ...], value: object, field: str
) -> None:
    found = {finding.field for finding in findings_of(broken(kind, position, value))}
    assert field in found


def test_a_resource_stated_for_the_group_alone_is_no_finding() -> None:
    assert findings_of(broken("RayCluster", (*SHARDS, "resources", "CPU"), "2")) == []


def test_a_finding_reads_as_resource_field_and_what_is_wrong() -> None:
    (finding,) = findings_of(broken("RayCluster", (*HEAD, "rayStartParams", "num-cpus"), "1"))
    assert str(finding) == "RayCluster/flights: spec.headGroupSpec.rayStartParams.num-cpus: must be \"0\", is '1'"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to compare with")
@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_our_own_renderer_and_kubectl_agree(name: str) -> None:
    def by_name(bodies: list[Json]) -> dict[tuple[str, str], Json]:
        return {(body["kind"], body["metadata"]["name"]): body for body in bodies}

    ours = by_name(kustomize.build(FOLDER / name))
    assert ours == by_name([resource.body for resource in manifests_of(name).resources])


def test_our_own_renderer_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [], "namePrefix": "x-"}))
    with pytest.raises(kustomize.UnsupportedKustomizationError, match="namePrefix"):
        kustomize.build(tmp_path)


def test_without_kubectl_the_manifests_are_rendered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    manifests, renderer = render.render(FOLDER / "base")
    assert "no kubectl" in renderer
    assert findings_of(manifests) == []


def test_the_command_ends_with_0_and_lists_what_it_checked() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "k8s.validate"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "RayCluster/flights" in run.stdout
    assert "all valid" in run.stdout
