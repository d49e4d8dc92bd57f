#!/usr/bin/env bash
# Makes the .venv in which CI runs, of files whose hashes are known; `make` then finds it made.
# torch alone comes by its version: .github/requirements.txt says why.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m venv .venv
pip() { .venv/bin/python -m pip install --quiet "$@"; }
pip --no-deps --require-hashes --requirement .github/requirements.txt
pip --constraint constraints.txt torch
pip --no-deps --no-build-isolation --editable . # hatchling, which builds it, is among those above
touch .venv/.installed
