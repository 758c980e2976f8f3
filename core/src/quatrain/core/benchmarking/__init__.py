"""How fast a sealed model is on this machine: latency, throughput, and the share of what the machine could do."""
