"""Signatures for the tests of the codecs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusion_cluster.catalogue.signature import Signature


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function written like a method, `self` first."""
    return Signature(function, f"Service.{function.__name__}")
