#!/usr/bin/env bash
# Build pycuda into a folder, on a machine without a GPU, its driver and the CUDA toolkit: the tests
# of the TensorRT backend run it on a stand-in for the driver (tests/backends/cuda_driver.c).
#
#     tests/backends/build_pycuda.sh FOLDER && HIPEDGE_PYCUDA=FOLDER pytest tests/backends
set -euo pipefail
target=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pip install -q --no-deps --target "$work/headers" \
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-profiler-api==13.0.*'
cuda=$work/headers/nvidia/cu13

# pycuda is linked against a driver of one function: the others are found when it is imported.
mkdir -p "$cuda/lib/stubs"
echo 'int cuInit(unsigned flags) { return (int)flags; }' |
    gcc -shared -x c -Wl,-soname,libcuda.so.1 -o "$cuda/lib/stubs/libcuda.so" -

pip download -q --no-deps --no-binary pycuda -d "$work" pycuda==2026.1
tar -xzf "$work/pycuda-2026.1.tar.gz" -C "$work"
cat >"$work/pycuda-2026.1/siteconf.py" <<END
CUDA_ROOT = "$cuda"
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O0", "-g0", "-w"]
END
pip install -q --target "$target" "$work/pycuda-2026.1"
