#!/usr/bin/env bash
# Writes .github/requirements.txt anew: what CI installs, each file by its hash.
set -euo pipefail
cd "$(dirname "$0")/.."

{
    cat <<'HEAD'
# What CI installs for Python 3.11 on Linux, from pyproject.toml and constraints.txt; each file by its hash.
# torch is not here: its builds have one version and several files (CPU, CUDA, each vendor's own), and a
# machine that has one of them is to use it. constraints.txt pins its version.
# Written by .github/lock.sh, never by hand.
HEAD
    # hatchling needs editables to install what is in this folder.
    echo "editables>=0.5" | .venv/bin/uv pip compile pyproject.toml - --constraints constraints.txt --extra dev --quiet \
        --generate-hashes --no-emit-package torch --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-unknown-linux-gnu
} >.github/requirements.new
mv .github/requirements.new .github/requirements.txt
