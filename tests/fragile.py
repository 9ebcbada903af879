"""An app that can be imported by its launcher but not by its members."""

from __future__ import annotations

import os

from fusion_cluster import App

if "FUSION_TEST_FRAGILE" in os.environ:
    raise RuntimeError("this host lacks what the fragile app needs")

app = App("fragile")
