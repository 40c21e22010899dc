#!/usr/bin/env bash
# An engine for a Jetson with JetPack 7: see jetson-orin-jetpack7.md and jetson-thor.md.
# shellcheck source=export/recipe.sh
source "$(dirname "$0")/recipe.sh"

install_on_jetson 'pycuda>=2026.1' 'cuda-bindings~=13.2'
build_and_verify --timing-cache "$HOME/hipedge/timings"
