#!/usr/bin/env bash
# An engine for a Jetson Thor: see jetson-thor.md.
exec "$(dirname "$0")/jetson-orin-jetpack7.sh" "$@"
