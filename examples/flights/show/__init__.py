"""The display of the demo: snapshots, how they are taken, and how they look."""
