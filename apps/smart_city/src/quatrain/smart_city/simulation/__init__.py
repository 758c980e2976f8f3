"""One SUMO simulation per process: started, controlled second by second, and measured."""
