"""Verification: cached values are compared with what their methods return now, in production or by hand.

It checks the promise of the library from outside of it, as Polaris does for the caches of Meta ("Cache made
consistent", 2022). Each member samples keys that are cached in it. Their owners compute them again without the cache,
and the two values are compared by their encoded forms. A difference that outlives the bound is a *violation*.

Invariant: verification changes no result, no edge and no history of a graph, and never shows or compares the value of
one principal with that of another.
"""

from fusion_cluster.verification.looks import Answer, CachedKey, Look
from fusion_cluster.verification.options import VerifyOptions
from fusion_cluster.verification.peers import ALONE, Peers
from fusion_cluster.verification.report import MethodReport, VerificationReport, Violation, merged
from fusion_cluster.verification.verification import Verification

__all__ = [
    "ALONE",
    "Answer",
    "CachedKey",
    "Look",
    "MethodReport",
    "Peers",
    "Verification",
    "VerificationReport",
    "VerifyOptions",
    "Violation",
    "merged",
]
