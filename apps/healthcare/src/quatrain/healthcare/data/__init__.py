"""Labelled images: read, checked, split; no torch here."""
