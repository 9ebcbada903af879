"""Our own rules: what the schemas allow and still would not run, or not run safely.

Each rule is a function from manifests to findings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from k8s.manifests import Finding, Manifests, PodTemplate

GATEWAY = "fusion_gateway"
SHARD = "fusion_shard"
# Made outside of the manifests, see k8s/README.md.
SECRETS_FROM_OUTSIDE = {"flights-secrets": {"auth_token", "database-url"}}
FIRST_RAY_WITH_TOKENS = (2, 52)
DOCKERFILE = Path(__file__).with_name("Dockerfile")

Rule = Callable[[Manifests], Iterator[Finding]]


def images_are_pinned(manifests: Manifests) -> Iterator[Finding]:
    """Every image has a tag or digest, and not :latest."""
    for pods in manifests.pod_templates():
        for position, container in pods.all_containers():
            image = str(container.get("image", ""))
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and tag in ("", "latest"):
                yield pods.resource.finding(f"{image!r} needs a tag that is not latest", *position, "image")


def requests_equal_limits(manifests: Manifests) -> Iterator[Finding]:
    """CPU and memory are set, requests = limits: Ray counts with the limits, the scheduler with the requests."""
    for pods in manifests.pod_templates():
        for position, container in pods.all_containers():
            resources = container.get("resources", {})
            for name in ("cpu", "memory"):
                request, limit = resources.get("requests", {}).get(name), resources.get("limits", {}).get(name)
                if request is None or request != limit:
                    message = f"the request is {request}, the limit {limit}; they must be set and equal"
                    yield pods.resource.finding(message, *position, "resources", "requests", name)


def head_runs_no_work(manifests: Manifests) -> Iterator[Finding]:
    """The head has num-cpus 0, so no actor is placed beside the control plane."""
    for cluster in manifests.of_kind("RayCluster"):
        position = ("spec", "headGroupSpec", "rayStartParams", "num-cpus")
        if cluster.at(*position) != "0":
            yield cluster.finding(f'must be "0", is {cluster.at(*position)!r}', *position)


def ray_pods_are_well_formed(manifests: Manifests) -> Iterator[Finding]:
    """The Ray container comes first, restartPolicy is unset or Never, no resource is in rayStartParams too."""
    start_params = {"CPU": "num-cpus", "GPU": "num-gpus", "memory": "memory"}
    for pods in manifests.pod_templates():
        if not pods.is_ray:
            continue
        first = next(iter(pods.containers()), (None, {}))[1].get("name", "")
        if not first.startswith("ray-"):
            yield pods.finding(
                f"the Ray container must be the first, here it is {first!r}", "spec", "containers", 0, "name"
            )
        if pods.template.get("spec", {}).get("restartPolicy", "Never") != "Never":
            yield pods.finding("must be unset or Never", "spec", "restartPolicy")
        for name in pods.group.get("resources", {}):
            twin = start_params.get(name, "resources")
            if twin in pods.group.get("rayStartParams", {}):
                message = f"{name} is set in resources too"
                yield pods.resource.finding(message, *pods.position[:-1], "rayStartParams", twin)


def tokens_are_required(manifests: Manifests) -> Iterator[Finding]:
    """AuthOptions.mode is token, and Ray is a version that knows tokens, the same as in the Dockerfile."""
    based_on = re.search(r"^FROM rayproject/ray:([\d.]+)", DOCKERFILE.read_text(), re.MULTILINE)
    for cluster in manifests.of_kind("RayCluster"):
        if cluster.at("spec", "authOptions", "mode") != "token":
            yield cluster.finding("must be token", "spec", "authOptions", "mode")
        version = str(cluster.at("spec", "rayVersion") or "0")
        if tuple(int(part) for part in version.split(".")[:2]) < FIRST_RAY_WITH_TOKENS:
            yield cluster.finding(f"{version} does not know tokens: 2.52 or newer", "spec", "rayVersion")
        if based_on is not None and based_on[1] != version:
            yield cluster.finding(f"is {version}, the Dockerfile starts from {based_on[1]}", "spec", "rayVersion")


def pods_are_confined(manifests: Manifests) -> Iterator[Finding]:
    """No container runs as root, gains privileges, keeps capabilities, or runs without a seccomp profile."""
    for pods in manifests.pod_templates():
        pod_context = pods.template.get("spec", {}).get("securityContext", {})
        for position, container in pods.all_containers():
            context = {**pod_context, **container.get("securityContext", {})}
            wanted: dict[str, tuple[Any, Any]] = {
                "runAsNonRoot": (context.get("runAsNonRoot"), True),
                "allowPrivilegeEscalation": (context.get("allowPrivilegeEscalation"), False),
                "capabilities": (context.get("capabilities", {}).get("drop"), ["ALL"]),
                "seccompProfile": (context.get("seccompProfile", {}).get("type"), "RuntimeDefault"),
            }
            for field, (value, right) in wanted.items():
                if value != right:
                    message = f"must be {right!r}, is {value!r}"
                    yield pods.resource.finding(message, *position, "securityContext", field)


def secrets_exist(manifests: Manifests) -> Iterator[Finding]:
    """Every secretKeyRef names a Secret, and a key of it, of these manifests or of k8s/README.md."""
    known = {name: set(keys) for name, keys in SECRETS_FROM_OUTSIDE.items()}
    for secret in manifests.of_kind("Secret"):
        known[secret.body["metadata"]["name"]] = {*secret.body.get("data", {}), *secret.body.get("stringData", {})}
    for pods in manifests.pod_templates():
        for position, container in pods.all_containers():
            for index, variable in enumerate(container.get("env", [])):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference and reference.get("key") not in known.get(reference.get("name"), set()):
                    message = f"{variable['name']} is from a Secret or key that does not exist: {reference}"
                    yield pods.resource.finding(message, *position, "env", index, "valueFrom", "secretKeyRef")
    for cluster in manifests.of_kind("RayCluster"):
        name = cluster.at("spec", "authOptions", "secretName")
        if name is not None and "auth_token" not in known.get(name, set()):
            yield cluster.finding(f"{name!r} has no key auth_token", "spec", "authOptions", "secretName")


def volumes_exist(manifests: Manifests) -> Iterator[Finding]:
    """Every volumeMount has its volume, every claim its PersistentVolumeClaim."""
    claims = {claim.body["metadata"]["name"] for claim in manifests.of_kind("PersistentVolumeClaim")}
    for pods in manifests.pod_templates():
        volumes = pods.template.get("spec", {}).get("volumes", [])
        for position, container in pods.all_containers():
            for index, mount in enumerate(container.get("volumeMounts", [])):
                if mount["name"] not in {volume["name"] for volume in volumes}:
                    message = f"no volume {mount['name']!r}"
                    yield pods.resource.finding(message, *position, "volumeMounts", index, "name")
        for index, volume in enumerate(volumes):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and claim not in claims:
                steps = ("spec", "volumes", index, "persistentVolumeClaim", "claimName")
                yield pods.finding(f"no PersistentVolumeClaim {claim!r}", *steps)


def budgets_hold(manifests: Manifests) -> Iterator[Finding]:
    """A PodDisruptionBudget has an integer minAvailable, below the number of pods that it selects."""
    for budget in manifests.of_kind("PodDisruptionBudget"):
        least = budget.at("spec", "minAvailable")
        if not isinstance(least, int):
            yield budget.finding(f"must be an integer, is {least!r}", "spec", "minAvailable")
            continue
        count = sum(pods.replicas for pods in _selected(manifests, budget.at("spec", "selector", "matchLabels")))
        if count == 0:
            yield budget.finding("selects no pods of these manifests", "spec", "selector", "matchLabels")
        elif least >= count:
            yield budget.finding(f"{least} of {count} pods: nothing could ever be drained", "spec", "minAvailable")


def _selected(manifests: Manifests, selector: Mapping[str, str] | None) -> Iterator[PodTemplate]:
    return (pods for pods in manifests.pod_templates() if pods.matches(selector or {}))


POD_RULES: tuple[Rule, ...] = (
    images_are_pinned,
    requests_equal_limits,
    head_runs_no_work,
    ray_pods_are_well_formed,
    tokens_are_required,
    pods_are_confined,
    secrets_exist,
    volumes_exist,
    budgets_hold,
)
