"""hipedge beside what people run today: the same films to the same crops and scores."""

import hipedge  # noqa: F401  # switches telemetry off before `networks` imports ONNX Runtime
