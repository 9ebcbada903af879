"""What the demo shows: snapshots, how they are taken, and how they look."""
