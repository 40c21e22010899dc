"""The contenders' names: in the figures, the tables and the plots."""

HIPEDGE = "hipedge"
ONE_PROCESS = "hipedge, one process"
SAME_WORK = "hipedge, the same work"
CAREFUL = "careful loop"
CAREFUL_FASTEST = "careful loop, fastest decoder"
NAIVE = "naive loop"
MONAI = "MONAI"
XRAYVISION = "torchxrayvision"

CAREFUL_ORT = f"{CAREFUL} + ONNX Runtime"
CAREFUL_TORCH = f"{CAREFUL} + PyTorch"
CAREFUL_FASTEST_TORCH = f"{CAREFUL_FASTEST} + PyTorch"
