"""SYNTHETIC networks with demand, made by SUMO's own netgenerate and kept by their digest."""
