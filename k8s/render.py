"""Rendering a kustomization offline: by `kubectl kustomize` where there is a kubectl, else by our own subset of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from k8s import kustomize
from k8s.manifests import Manifests, Resource

RENDER_TIMEOUT_S = 60


def render(folder: Path) -> tuple[Manifests, str]:
    """The manifests of the kustomization in `folder`, and the name of what rendered them.

    Raises:
        RuntimeError: kubectl could not render it; the message is kubectl's.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        bodies, renderer = kustomize.build(folder), "k8s.kustomize (no kubectl here)"
    else:
        run = subprocess.run(
            [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=RENDER_TIMEOUT_S, check=False
        )
        if run.returncode != 0:
            raise RuntimeError(f"kubectl kustomize {folder}: {run.stderr.strip()}")
        bodies, renderer = [body for body in yaml.safe_load_all(run.stdout) if body], "kubectl kustomize"
    return Manifests(tuple(Resource(body) for body in bodies)), renderer
