"""An app that can be imported by its launcher but not by its members."""

from __future__ import annotations

import os
import sys

from fusion_cluster import App

if "FUSION_TEST_FRAGILE" in os.environ:
    sys.exit("this host lacks what the fragile app needs")

app = App("fragile")
