"""The sealed model: manifest, one ONNX file, golden inputs and outputs, card and signature."""
