"""Core's own pages: overview, batch runs, training runs."""
