"""Traffic-signal timing on SUMO: simulate, control, re-time, and prove it beside the city's own plan."""
