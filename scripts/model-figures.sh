#!/usr/bin/env bash
# Prints the accuracy, agreement and time of the networks beside the repository: see model_figures.py.
#
#   scripts/model-figures.sh [--check] [--models DIR] [--bin DIR]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$here/../.venv/bin/python
if ! [ -x "$python" ]; then
    echo "model-figures.sh: error: no Python environment .venv" >&2
    echo "hint: run scripts/setup.sh" >&2
    exit 1
fi
exec "$python" "$here/model_figures.py" "$@"
