"""From labelled images to a sealed model."""
