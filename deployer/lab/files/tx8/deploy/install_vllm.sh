#!/bin/bash
# install_vllm.sh HOME_PATH VERSION: unpacks the engine of that version into the active environment.
set -eu
[ $# -eq 2 ] || { echo "usage: bash install_vllm.sh HOME_PATH VERSION"; exit 1; }
home=$1 version=$2
[ "${CONDA_DEFAULT_ENV-}" = tx8_txnn ] || { echo "pip: command not found in environment ${CONDA_DEFAULT_ENV-none}"; exit 1; }
archive=$(find "$home" -maxdepth 2 -name "$version.tar.gz" | head -n 1)
[ -n "$archive" ] || { echo "$version.tar.gz: No such file or directory below $home"; exit 1; }
mkdir -p "$CONDA_PREFIX/lib/txnn"
tar -xzf "$archive" -C "$CONDA_PREFIX/lib/txnn" --strip-components=1
echo "$version" > "$CONDA_PREFIX/lib/txnn/version"
echo "Successfully installed $version"
