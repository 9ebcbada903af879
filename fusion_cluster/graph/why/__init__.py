"""The reason why a key is out of date, and its story: causes, and the history in words."""
