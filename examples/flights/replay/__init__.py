"""Commands for a day's departures and arrivals, in the order in which they happened."""
