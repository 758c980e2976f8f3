"""What predicts traffic at a signal: the queue model that plans are tried on."""
