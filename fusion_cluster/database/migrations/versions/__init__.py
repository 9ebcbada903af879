"""The revisions, oldest first by their numbers.

A released revision never changes, because databases in use have it. It imports nothing of the library. There are no
downgrades. What a release does not need any more is dropped by a revision of a later release.
"""
