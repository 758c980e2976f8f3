"""The protocol of the field: images, pixels and verdicts of a sealed inspector on labelled parts."""
