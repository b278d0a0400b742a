#!/usr/bin/env bash
# Times calibration: see bench_calibration.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../.venv/bin/python" "$here/bench_calibration.py" "$@"
