"""Fraud detection on card transactions."""
