"""Files to what the graph takes: pixels of the depth and channels that the model was trained with; no torch."""
