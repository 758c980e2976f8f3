"""The names of a sealed graph's outputs; scoring needs them, and nothing that trains."""

from __future__ import annotations

LOGITS, FEATURES, EMBEDDING = "logits", "features", "embedding"
PROBABILITY, DISTANCE = "probability", "distance"
OUTPUTS = (PROBABILITY, LOGITS, EMBEDDING, DISTANCE)
INPUT = "pixels"
