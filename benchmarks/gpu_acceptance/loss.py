"""Losing a GPU's context on purpose, and what the backend does then."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.tensorrt.calls import keep_for_ever
from hipedge.backends.tensorrt.gpu import Gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend
from hipedge.errors import BackendLost

# A kernel that writes to an address at which there is nothing; the driver compiles it.
FAULT = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry fault() {
    .reg .b64 %address;
    mov.u64 %address, 16;
    st.global.u32 [%address], 0;
    ret;
}
\0"""


def break_context() -> None:
    """Let a kernel write where it must not: no call with this context succeeds any more."""
    gpu = Gpu.open()
    with gpu.current():
        module = gpu.cuda.module_from_buffer(FAULT)
        # Its destructor, with a broken context, would end the process.
        keep_for_ever((gpu, module))
        function = module.get_function("fault")
    with suppress(gpu.cuda.Error), gpu.current():
        function(block=(1, 1, 1), grid=(1, 1))
        gpu.cuda.Context.synchronize()


def drill(backend: TensorRtBackend, samples: NDArray[np.uint8]) -> dict[str, object]:
    """Break the context of an open backend, ask for scores twice, and close it.

    That this process ends as others do afterwards is a part of the drill.
    """
    with backend:
        backend.infer(samples[:1])
        break_context()
        results, errors = 0, []
        for _ in range(2):
            try:
                backend.infer(samples[:1])
                results += 1
            except BackendLost as error:
                errors.append(str(error))
    return {"results": results, "errors": errors}
