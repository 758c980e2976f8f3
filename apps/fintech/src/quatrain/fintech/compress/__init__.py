"""Compression: a sealed network made smaller and faster behind a gate on later transactions, or refused."""
