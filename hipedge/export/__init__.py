"""From a trained network to the files that run: ONNX, engines, and the proof that they agree."""
