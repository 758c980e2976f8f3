"""Transactions in: column mapping, file formats, validation row by row, tables and time splits; no torch."""
