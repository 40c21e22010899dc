"""TensorRT and TensorRT for RTX: the backend, CUDA graphs, cached engines and flavours."""
