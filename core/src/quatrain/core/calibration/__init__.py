"""Scores as honest probabilities and as sets that hold the truth as often as they say."""
