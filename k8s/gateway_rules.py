"""Rules about the way in: probes, the Service, the network policies, and the numbers that `serve` is started with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from k8s.manifests import Finding, Manifests, PodTemplate
from k8s.rules import GATEWAY, SHARD, Rule


def gateways_are_probed(manifests: Manifests) -> Iterator[Finding]:
    """There are gateway pods; each has a gRPC readiness probe, on the port that it exposes as grpc."""
    for pods in _gateways(manifests):
        position, container = next(iter(pods.containers()))
        probed = container.get("readinessProbe", {}).get("grpc", {}).get("port")
        exposed = _port(container, "grpc")
        if probed is None:
            yield pods.resource.finding("a gateway needs a native gRPC probe", *position, "readinessProbe", "grpc")
        elif probed != exposed:
            message = f"probes {probed}, the container's grpc port is {exposed}"
            yield pods.resource.finding(message, *position, "readinessProbe", "grpc", "port")
    for cluster in manifests.of_kind("RayCluster"):
        if not any(pods.offers(GATEWAY) for pods in cluster.pod_templates()):
            yield cluster.finding(f"no group offers the resource {GATEWAY}", "spec", "workerGroupSpecs")


def workloads_are_probed(manifests: Manifests) -> Iterator[Finding]:
    """Every container that KubeRay does not probe by itself has a liveness and a readiness probe."""
    for pods in manifests.pod_templates():
        if pods.is_ray:
            continue
        for position, container in pods.containers():
            for probe in ("livenessProbe", "readinessProbe"):
                if probe not in container:
                    yield pods.resource.finding("is missing", *position, probe)


def service_reaches_gateways(manifests: Manifests) -> Iterator[Finding]:
    """The Service is headless, selects all gateways and nothing else, and its target is their grpc port."""
    services = list(manifests.of_kind("Service"))
    for pods in _gateways(manifests):
        if not any(pods.matches(service.at("spec", "selector") or {}) for service in services):
            yield pods.finding("no Service selects the gateways", "metadata", "labels")
    for service in services:
        if service.at("spec", "clusterIP") != "None":
            yield service.finding("must be None: HTTP/2 would stay on one pod", "spec", "clusterIP")
        for pods in manifests.pod_templates():
            if not pods.matches(service.at("spec", "selector") or {}):
                continue
            if not pods.offers(GATEWAY):
                yield service.finding(f"also selects {pods.labels}", "spec", "selector")
                continue
            _, container = next(iter(pods.containers()))
            grpc_port = _port(container, "grpc")
            for index, port in enumerate(service.at("spec", "ports") or []):
                target = port.get("targetPort", port.get("port"))
                if target not in ("grpc", grpc_port):
                    message = f"{target!r} is not the gateway's grpc port {grpc_port}"
                    yield service.finding(message, "spec", "ports", index, "targetPort")


def policies_let_through(manifests: Manifests) -> Iterator[Finding]:
    """Every pod is under a NetworkPolicy; closed egress leaves DNS open; the gateways' grpc port is open."""
    policies = list(manifests.of_kind("NetworkPolicy"))
    for policy in policies:
        egress = policy.at("spec", "egress") or []
        if "Egress" in (policy.at("spec", "policyTypes") or []):
            for protocol in ("UDP", "TCP"):
                if not any({"protocol": protocol, "port": 53} in rule.get("ports", []) for rule in egress):
                    yield policy.finding(f"no way to DNS: port 53 {protocol} is missing", "spec", "egress")
    for pods in manifests.pod_templates():
        selecting = [
            policy for policy in policies if pods.matches(policy.at("spec", "podSelector", "matchLabels") or {})
        ]
        if not selecting:
            yield pods.finding("no NetworkPolicy selects these pods", "metadata", "labels")
        if pods.offers(GATEWAY) and selecting:
            _, container = next(iter(pods.containers()))
            grpc_port = _port(container, "grpc")
            doors = [rule for policy in selecting for rule in policy.at("spec", "ingress") or [] if "from" not in rule]
            if not any(port.get("port") == grpc_port for rule in doors for port in rule.get("ports", [])):
                yield selecting[-1].finding(f"does not let the outside in to port {grpc_port}", "spec", "ingress")


def serve_agrees(manifests: Manifests) -> Iterator[Finding]:
    """`fusion-cluster serve` starts as many shards and gateways as there are pods, on the port that is probed."""
    expected: dict[str, int] = {}
    for pods in manifests.pod_templates():
        for option, resource in (("--shards", SHARD), ("--gateways", GATEWAY)):
            if pods.offers(resource):
                expected[option] = expected.get(option, 0) + pods.replicas
    for pods in _gateways(manifests):
        expected["--grpc-port"] = _port(next(iter(pods.containers()))[1], "grpc") or 0
    commands = [
        (pods, position, " ".join(map(str, [*container.get("command", []), *container.get("args", [])])))
        for pods in manifests.pod_templates()
        for position, container in pods.containers()
    ]
    serving = [command for command in commands if "fusion-cluster serve" in command[2]]
    if not serving:
        for cluster in manifests.of_kind("RayCluster"):
            yield cluster.finding("nothing runs `fusion-cluster serve` on it", "spec")
    for pods, position, text in serving:
        for option, number in expected.items():
            given = re.search(rf"{option}[ =](\d+)", text)
            if given is None or int(given[1]) != number:
                message = f"{option} must be {number}, is {given[1] if given else 'missing'}"
                yield pods.resource.finding(message, *position, "args")


def _gateways(manifests: Manifests) -> Iterator[PodTemplate]:
    return (pods for pods in manifests.pod_templates() if pods.offers(GATEWAY))


def _port(container: dict[str, Any], name: str) -> int | None:
    return next((int(port["containerPort"]) for port in container.get("ports", []) if port.get("name") == name), None)


GATEWAY_RULES: tuple[Rule, ...] = (
    gateways_are_probed,
    workloads_are_probed,
    service_reaches_gateways,
    policies_let_through,
    serve_agrees,
)
