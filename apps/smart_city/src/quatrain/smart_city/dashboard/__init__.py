"""The traffic app's pages."""
