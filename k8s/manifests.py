"""Rendered manifests as data: one resource, the pod templates inside it, and where in it something stands.

A position is the tuple of keys and indices that leads to a value; its text ("spec.containers[0].image") is what a
finding names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
Position: TypeAlias = tuple[str | int, ...]


def describe(position: Sequence[str | int]) -> str:
    """The position as a person writes it: `spec.containers[0].image`; keys with dots in them are quoted."""
    text = ""
    for step in position:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or "/" in step:
            text += f'["{step}"]'
        else:
            text += f".{step}" if text else step
    return text


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the resource, the field, and what should stand there."""

    resource: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.field}: {self.message}"


@dataclass(frozen=True)
class PodTemplate:
    """The template of the pods of a workload, or of one group of Ray hosts.

    Attributes:
        resource: what it is part of.
        position: where the template stands in it.
        replicas: how many pods it is for.
        group: the head group or worker group of a RayCluster; empty for another workload.
    """

    resource: Resource
    position: Position
    replicas: int
    group: Mapping[str, Any]

    @property
    def template(self) -> Json:
        """The template itself."""
        found: Json = self.resource.at(*self.position)
        return found

    @property
    def is_ray(self) -> bool:
        """KubeRay makes these pods."""
        return self.resource.kind == "RayCluster"

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the pods."""
        found: Mapping[str, str] = self.template.get("metadata", {}).get("labels", {})
        return found

    def containers(self, field: str = "containers") -> Iterator[tuple[Position, Json]]:
        """The containers, or the `initContainers`, with their positions, in order."""
        for index, container in enumerate(self.template.get("spec", {}).get(field, [])):
            yield (*self.position, "spec", field, index), container

    def all_containers(self) -> Iterator[tuple[Position, Json]]:
        """Those that run, then those that run before them."""
        yield from self.containers()
        yield from self.containers("initContainers")

    def offers(self, resource_name: str) -> bool:
        """The Ray hosts of this group have the custom resource."""
        return resource_name in self.group.get("resources", {})

    def matches(self, selector: Mapping[str, str]) -> bool:
        """A selector of labels selects these pods; the empty one selects none here, for it is surely a mistake."""
        return bool(selector) and all(self.labels.get(key) == value for key, value in selector.items())

    def finding(self, message: str, *steps: str | int) -> Finding:
        """A finding at `steps` below the template."""
        return self.resource.finding(message, *self.position, *steps)


@dataclass(frozen=True)
class Resource:
    """One rendered manifest."""

    body: Json

    @property
    def kind(self) -> str:
        """Its kind, "" when it says none."""
        return str(self.body.get("kind", ""))

    @property
    def name(self) -> str:
        """Kind and name, as kubectl writes them."""
        return f"{self.kind}/{self.body.get('metadata', {}).get('name', '?')}"

    def at(self, *position: str | int) -> Any:
        """The value at a position, or None."""
        value: Any = self.body
        for step in position:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def finding(self, message: str, *position: str | int) -> Finding:
        """A finding about the field at `position`."""
        return Finding(self.name, describe(position), message)

    def pod_templates(self) -> Iterator[PodTemplate]:
        """The pod templates in it: none for most kinds."""
        if self.kind == "RayCluster":
            head = self.at("spec", "headGroupSpec")
            if head is not None:
                yield PodTemplate(self, ("spec", "headGroupSpec", "template"), 1, head)
            for index, group in enumerate(self.at("spec", "workerGroupSpecs") or []):
                position: Position = ("spec", "workerGroupSpecs", index, "template")
                yield PodTemplate(self, position, int(group.get("replicas", 0)), group)
        elif self.kind in ("Deployment", "StatefulSet", "Job"):
            yield PodTemplate(self, ("spec", "template"), int(self.at("spec", "replicas") or 1), {})


@dataclass(frozen=True)
class Manifests:
    """All that one kustomization renders."""

    resources: tuple[Resource, ...]

    def of_kind(self, kind: str) -> Iterator[Resource]:
        """Those of one kind."""
        return (resource for resource in self.resources if resource.kind == kind)

    def pod_templates(self) -> Iterator[PodTemplate]:
        """All pod templates."""
        for resource in self.resources:
            yield from resource.pod_templates()
