#!/usr/bin/env bash
# An engine for machines with TensorRT's lean runtime alone, built on one with TensorRT for CUDA 13
# and the same GPU: see lean-runtime.md.
# shellcheck source=export/recipe.sh
source "$(dirname "$0")/recipe.sh"

export PATH=/usr/local/cuda/bin:$PATH # pycuda is compiled with nvcc
run pip install 'hipedge[tensorrt-cu13]'
run hipedge export engine "${model[@]}" --flavour tensorrt --lean -o fleet/hip.engine
