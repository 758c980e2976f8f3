"""Why a model says what it says: attributions that add up, maps of where it looked, and the check that they mean it."""
