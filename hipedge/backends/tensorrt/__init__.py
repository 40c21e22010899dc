"""TensorRT and TensorRT for RTX: runtime, CUDA graphs, engine cache and flavours."""
