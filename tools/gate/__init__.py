"""The gate: what `make test` runs, in parts, and what it says of them."""
