"""`python -m fusion_cluster.cli`: the same as `fusion-cluster`."""

from fusion_cluster.cli.main import main

main()
