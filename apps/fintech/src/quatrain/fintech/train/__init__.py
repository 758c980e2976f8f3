"""Training: candidates chosen on validation, the test read once, the champion sealed and published."""
