"""Errors as results: an exception is kept, copied for each caller, and printed."""
