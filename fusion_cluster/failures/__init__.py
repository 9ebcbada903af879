"""Errors as results: how an exception is kept, copied for each caller and printed."""
