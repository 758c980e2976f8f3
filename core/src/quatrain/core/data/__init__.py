"""The data catalogue: what each set is, where it comes from, and a verified copy of it on this machine."""
