"""Defect inspection: trained on good parts, with a promised rate of good parts rejected."""
