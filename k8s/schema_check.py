"""The schema of a resource's kind: kubernetes-validate for core kinds, KubeRay's CRD for the RayCluster.

Both are strict: a field that the schema does not know is an error, for Kubernetes drops it in silence and the slip of
the pen shows up as a default in production.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

from k8s.manifests import Finding, Json, Resource

KUBERNETES_VERSION = "1.32"
CRD_SCHEMAS = {("ray.io/v1", "RayCluster"): Path(__file__).with_name("schemas") / "rayclusters.v1.json"}
CRD_RELEASE = "KubeRay 1.7"


def check_schema(resource: Resource) -> tuple[list[Finding], str]:
    """What the schema has against the resource, and the name of the schema."""
    crd = CRD_SCHEMAS.get((str(resource.body.get("apiVersion")), resource.kind))
    if crd is not None:
        validator = jsonschema.Draft202012Validator(_strict_crd(crd))
        errors = sorted(validator.iter_errors(resource.body), key=lambda error: [str(step) for step in error.path])
        return [_finding(resource, error) for error in errors], CRD_RELEASE
    schema = f"Kubernetes {KUBERNETES_VERSION}"
    try:
        kubernetes_validate.validate(resource.body, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [_finding(resource, error)], schema
    except (kubernetes_validate.SchemaNotFoundError, KeyError):
        return [resource.finding(f"no schema for {resource.body.get('apiVersion')} {resource.kind}", "kind")], schema
    return [], schema


def _finding(resource: Resource, error: jsonschema.ValidationError) -> Finding:
    # Of a choice (anyOf), the branch that came furthest says what was meant.
    best = jsonschema.exceptions.best_match([error])
    return resource.finding(best.message, *best.absolute_path)


@cache
def _strict_crd(path: Path) -> Json:
    schema: Json = json.loads(path.read_text())
    _forbid_unknown_fields(schema)
    return schema


def _forbid_unknown_fields(schema: Any) -> None:
    if isinstance(schema, list):
        for item in schema:
            _forbid_unknown_fields(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
        for item in schema.values():
            _forbid_unknown_fields(item)
