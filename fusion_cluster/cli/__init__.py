"""The command line: `fusion-cluster`."""

from fusion_cluster.cli.main import main

__all__ = ["main"]
