"""How a fraud model is measured: beside the baselines, on transactions that came later, with intervals."""
