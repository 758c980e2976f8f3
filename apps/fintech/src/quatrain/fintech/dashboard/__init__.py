"""The fraud analyst's pages: alert queue and model report."""
