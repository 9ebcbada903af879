"""Strict hosts: values pass through the codec, and a cached value that changes is an error.

In one process nothing has to be encoded, and all callers get the same object. So code may work there and fail in a
cluster, or change a result that others read. A strict host shows these mistakes in one process: see `Strictness`.
"""

from fusion_cluster.strict.choice import choose_strict
from fusion_cluster.strict.strictness import Strictness, raise_findings

__all__ = ["Strictness", "choose_strict", "raise_findings"]
