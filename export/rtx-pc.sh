#!/usr/bin/env bash
# An engine for a Linux PC with an RTX card: see rtx-pc.md.
# shellcheck source=export/recipe.sh
source "$(dirname "$0")/recipe.sh"

run pip install 'hipedge[rtx]'
export PATH=/usr/local/cuda/bin:$PATH # pycuda is compiled with nvcc
$build_only || run pip install 'pycuda>=2026.1'
build_and_verify --flavour rtx
