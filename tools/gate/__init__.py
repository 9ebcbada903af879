"""The gate: runs what `make test` runs, in parts, and prints the outcome."""
