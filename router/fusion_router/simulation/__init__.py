"""The simulator: whole clusters in one process, in virtual time, in which a seed decides everything."""
