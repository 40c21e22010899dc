"""How far each runtime is from a model's FP32 scores, as a table for the documentation.

    python -m benchmarks.parity --model DIR

OpenVINO is measured in both precisions, whichever it would take by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hipedge.backends import obstacle, open_backend
from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.backends.openvino import OpenVinoBackend
from hipedge.backends.parity import Parity, check_parity
from hipedge.machine import machine
from hipedge.model import open_model

HEAD = "| runtime | agrees | Δ probability | Δ heat map | Δ by batch | changed | close calls |"
RULE = "|---|---|---:|---:|---:|---:|---:|"


def row(name: str, parity: Parity) -> str:
    """Return a row of the table, in Markdown."""
    changed = parity.category_changes + parity.flag_changes
    cells = (
        name,
        "yes" if parity.agrees else "**no**",
        f"{parity.probability_difference:.4f}",
        f"{parity.map_difference:.4f}",
        f"{parity.batch_difference:.1e}",
        str(changed),
        f"{parity.close_calls} of {parity.decisions}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Check each runtime that is here, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    model = open_model(parser.parse_args().model)
    print(f"Model {model.card.name} ({model.card.status.value}), {machine()['processor']}.\n")
    print(HEAD, RULE, sep="\n")
    cases = {
        "ONNX Runtime": lambda: OnnxRuntimeBackend(model),
        "OpenVINO, FP32": lambda: OpenVinoBackend(model, precision="f32"),
        "OpenVINO, bfloat16": lambda: OpenVinoBackend(model, precision="bf16"),
    }
    if obstacle("tensorrt") is None:
        cases["TensorRT, FP16"] = lambda: open_backend("tensorrt", model)
    for name, opened in cases.items():
        with opened() as backend:
            print(row(name, check_parity(backend, model)), flush=True)


if __name__ == "__main__":
    main()
