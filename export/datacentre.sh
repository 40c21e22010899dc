#!/usr/bin/env bash
# An engine for a data-centre GPU with a driver of CUDA 13: see datacentre.md.
# shellcheck source=export/recipe.sh
source "$(dirname "$0")/recipe.sh"

export PATH=/usr/local/cuda/bin:$PATH # pycuda is compiled with nvcc
run pip install 'hipedge[tensorrt-cu13]'
build_and_verify --batch 1:32:128 --timing-cache timings
