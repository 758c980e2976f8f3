"""Fixed-time plans made anew: Webster's start, a search over simulations, and the sheets that a city loads."""
