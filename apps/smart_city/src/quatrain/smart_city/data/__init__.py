"""Scenarios and networks as SUMO's files describe them, read and checked before anything runs."""
