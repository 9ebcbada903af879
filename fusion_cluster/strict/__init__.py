"""Strict hosts: values pass through the codec, and stay what they were when they were cached.

In one process nothing has to be encoded, and everybody is given the same object. What goes wrong in a cluster, or for
others who read the same result, is not seen there. A strict host makes it seen: see `Strictness`.
"""

from fusion_cluster.strict.choice import choose_strict
from fusion_cluster.strict.strictness import Strictness, raise_findings

__all__ = ["Strictness", "choose_strict", "raise_findings"]
