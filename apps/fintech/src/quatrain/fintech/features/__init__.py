"""Transactions to model inputs: what a row says by itself, and what the history before it says."""
