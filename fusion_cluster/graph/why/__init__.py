"""Why a key is out of date, and its story: causes, and the history put into words."""
