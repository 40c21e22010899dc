#!/usr/bin/env bash
# An engine for a Jetson Orin with JetPack 6: see jetson-orin-jetpack6.md.
# shellcheck source=export/recipe.sh
source "$(dirname "$0")/recipe.sh"

install_on_jetson pycuda 'cuda-bindings~=12.6'
build_and_verify --timing-cache "$HOME/hipedge/timings"
