"""What is inside an inspector's graph: features of a part, scorers of how unlike good parts it is, map and score."""
