"""A day's departures and arrivals as commands, in the order they happened."""
