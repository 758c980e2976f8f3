"""Smaller and faster models behind gates: a step's outcome is shipped only where it is proved as good."""
