"""The training recipe; the only importer of torch, with `hipedge.export.onnx`."""
