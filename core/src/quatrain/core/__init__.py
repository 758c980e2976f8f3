"""Training, sealed bundles, inference, batch jobs and dashboards shared by every Quatrain app."""
