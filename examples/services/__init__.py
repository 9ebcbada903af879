"""The built-in services at work, a small app for each: `python -m examples.services` shows them."""
