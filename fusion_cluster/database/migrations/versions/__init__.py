"""The revisions, oldest first by their numbers.

A revision is never changed once it is released: databases out there have it. It stands for itself, and imports nothing
of the library. There is no way back from one; what a release needs no more is dropped by a revision of a later release.
"""
