"""The outputs of nodes, computed and lost: single flight, waiting, delays, expiry, consolidation, retention."""
