"""How well findings are found, with intervals."""
