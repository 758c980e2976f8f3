"""What chooses a signal's next stage: the city's plan, the classics, and Quatrain's own."""
