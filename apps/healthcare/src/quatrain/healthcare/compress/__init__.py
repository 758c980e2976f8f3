"""A sealed model made smaller and faster, and kept only where it finds as much."""
