"""Synthetic card transactions: the handbook's published world and a harder one."""
