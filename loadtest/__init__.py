"""Load test of the flights app's gateway: users read, watch and execute; `python -m loadtest --seconds 30`."""
