"""The model report."""

from __future__ import annotations


def model_report() -> None:
    """Draw it."""
