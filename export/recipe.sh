# What the recipes share; each sources this file with its own arguments.
#
#     RECIPE.sh [--dry-run] [--build-only] [MODEL]
#
# MODEL is a model folder, by default the reference model. --dry-run prints the commands, and runs
# none; --build-only stops once the engine is built, for a machine without its GPU.
# shellcheck shell=bash
set -euo pipefail

dry_run=false
build_only=false
model=()
for argument in "$@"; do
    case $argument in
        --dry-run) dry_run=true ;;
        --build-only) build_only=true ;;
        -*)
            echo "usage: $0 [--dry-run] [--build-only] [MODEL]" >&2
            exit 2
            ;;
        *) model=("$argument") ;;
    esac
done

# Print a command, and run it unless this is a dry run.
run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    $dry_run || "$@"
}

# Build the engine with these options. Its scores are compared with the model's on this GPU.
build_and_verify() {
    run hipedge export engine "${model[@]}" "$@"
    if ! $build_only; then
        run hipedge doctor
        run hipedge export verify "${model[@]}" --backend tensorrt
    fi
}

# Make a virtual environment that has JetPack's TensorRT, with hipedge and these packages.
install_on_jetson() {
    run sudo apt-get install -y python3-libnvinfer python3-venv python3-dev
    run python3 -m venv --system-site-packages "$HOME/hipedge"
    export PATH="$HOME/hipedge/bin:/usr/local/cuda/bin:$PATH" # pycuda is compiled with nvcc
    run pip install hipedge "$@"
    # The maximum power mode, and fixed clocks: layers are timed while the engine is built.
    run sudo nvpmodel -m 0
    run sudo jetson_clocks
}
