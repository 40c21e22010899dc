"""Export of trained networks to ONNX, and of ONNX to TensorRT engines."""
