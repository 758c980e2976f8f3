"""Image and signal diagnosis that knows when it does not know. Not for diagnosis."""
