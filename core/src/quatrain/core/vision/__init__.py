"""Images to models: preprocessing inside the graph, backbones with published weights, and a classifier on top."""
