"""Images of parts from disk: public layouts as one list of samples, pixels and masks; no torch."""
