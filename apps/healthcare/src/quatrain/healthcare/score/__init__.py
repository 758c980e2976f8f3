"""Files that come at night: each read, checked, scored once, and put where the morning's worklist finds it."""
