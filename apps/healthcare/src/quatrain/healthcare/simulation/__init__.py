"""Invented chest radiographs with known truth; every one says SYNTHETIC in its pixels."""
