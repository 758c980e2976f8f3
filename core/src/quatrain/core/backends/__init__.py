"""What runs a sealed graph: ONNX Runtime, OpenVINO and torch, each held to the golden outputs."""
