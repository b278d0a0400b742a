#!/usr/bin/env bash
# Times the programs, paired with ONNX Runtime where it has a counterpart.
#
#   scripts/bench.sh [PART ...] [OPTION ...]
#
# Parts: latency, throughput, simulation, conversion (bench_latency.py), integer, calibration, recovery
# (scripts of that name); without one, all of them. Options go to the scripts: --rounds N, --models DIR,
# --bin DIR.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python="$here/../.venv/bin/python"

parts=()
while [ $# -gt 0 ]; do
    case $1 in
    latency | throughput | simulation | conversion | integer | calibration | recovery) parts+=("$1") ;;
    -*) break ;;
    *)
        echo "bench.sh: error: there is no part '$1'" >&2
        echo "hint: latency, throughput, simulation, conversion, integer, calibration, recovery" >&2
        exit 2
        ;;
    esac
    shift
done
if [ "${#parts[@]}" -eq 0 ]; then
    parts=(latency throughput simulation conversion integer calibration recovery)
fi

runtime=()
for part in "${parts[@]}"; do
    case $part in
    latency | throughput | simulation | conversion) runtime+=("$part") ;;
    esac
done
if [ "${#runtime[@]}" -gt 0 ]; then "$python" "$here/bench_latency.py" "${runtime[@]}" "$@"; fi
for part in "${parts[@]}"; do
    case $part in
    integer | calibration | recovery) "$python" "$here/bench_$part.py" "$@" ;;
    esac
done
