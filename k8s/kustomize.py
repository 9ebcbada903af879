"""The part of kustomize that our manifests use, for machines without kubectl.

Understood: `resources` (files and other kustomizations), `patches` (JSON 6902, from a file, by kind and name),
`secretGenerator` (literals) and `generatorOptions.disableNameSuffixHash`. Anything else is refused by name and never
skipped, and a test compares the outcome with that of `kubectl kustomize` where there is one.
"""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import yaml

from k8s.manifests import Json

UNDERSTOOD = {"apiVersion", "kind", "resources", "patches", "secretGenerator", "generatorOptions"}


class UnsupportedKustomizationError(Exception):
    """The kustomization uses something that this small renderer does not know."""


def build(folder: Path) -> list[Json]:
    """Render the kustomization in `folder`.

    Raises:
        UnsupportedKustomizationError: it uses more of kustomize than is understood here; the message names the field.
    """
    kustomization: Json = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for field in kustomization.keys() - UNDERSTOOD:
        raise UnsupportedKustomizationError(f"{folder}/kustomization.yaml: {field} is not supported without kubectl")
    resources: list[Json] = []
    for name in kustomization.get("resources", []):
        path = folder / name
        resources += build(path) if path.is_dir() else _documents(path)
    resources += [_secret(folder, kustomization, secret) for secret in kustomization.get("secretGenerator", [])]
    for patch in kustomization.get("patches", []):
        _apply(folder, patch, resources)
    return resources


def _documents(path: Path) -> list[Json]:
    # Anchors make shared objects: each resource gets its own, or a patch of one place would show up in another.
    return [_unshared(document) for document in yaml.safe_load_all(path.read_text()) if document]


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _secret(folder: Path, kustomization: Json, generator: Json) -> Json:
    if not kustomization.get("generatorOptions", {}).get("disableNameSuffixHash"):
        raise UnsupportedKustomizationError(
            f"{folder}/kustomization.yaml: secretGenerator needs disableNameSuffixHash here"
        )
    for field in generator.keys() - {"name", "literals"}:
        raise UnsupportedKustomizationError(
            f"{folder}/kustomization.yaml: secretGenerator.{field} is not supported here"
        )
    pairs = (literal.split("=", 1) for literal in generator["literals"])
    data = {key: base64.b64encode(value.encode()).decode() for key, value in pairs}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": generator["name"]},
        "type": "Opaque",
        "data": data,
    }


def _apply(folder: Path, patch: Json, resources: list[Json]) -> None:
    for field in patch.keys() - {"target", "path"}:
        raise UnsupportedKustomizationError(f"{folder}/kustomization.yaml: patches.{field} is not supported here")
    operations = yaml.safe_load((folder / patch["path"]).read_text())
    if not isinstance(operations, list):
        raise UnsupportedKustomizationError(f"{folder / patch['path']}: only JSON 6902 patches are supported here")
    target = patch["target"]
    for resource in resources:
        if resource["kind"] == target["kind"] and resource["metadata"]["name"] == target["name"]:
            for operation in operations:
                _operate(resource, operation)


def _operate(resource: Json, operation: Json) -> None:
    """One operation of RFC 6902: add, replace or remove."""
    *parents, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    holder: Any = resource
    for step in parents:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    value = copy.deepcopy(operation.get("value"))
    match operation["op"], holder:
        case "add", list():
            holder.insert(len(holder) if last == "-" else int(last), value)
        case "replace", list():
            holder[int(last)] = value
        case (("add" | "replace"), dict()):
            if operation["op"] == "replace" and last not in holder:
                raise KeyError(f"{operation['path']}: there is nothing to replace")
            holder[last] = value
        case "remove", list():
            del holder[int(last)]
        case "remove", dict():
            del holder[last]
        case (other, _):
            raise UnsupportedKustomizationError(f"{operation['path']}: the operation {other!r} is not supported here")
