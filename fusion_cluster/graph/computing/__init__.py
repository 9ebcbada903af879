"""How nodes get their outputs and lose them: single flight, waiting, delays, expiry, consolidation, retention."""
