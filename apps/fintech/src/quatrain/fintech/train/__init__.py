"""Training: a recipe chosen on validation, the test read once, the champion calibrated, sealed and published."""
