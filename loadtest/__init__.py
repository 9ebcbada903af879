"""Load on the gateway of the flights app: users that read, watch and execute; `python -m loadtest --seconds 30`."""
