#!/usr/bin/env bash
# The C++ wall under libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer: `scripts/fuzz/run.sh [SECONDS] [FOLDER]`.
# Starts from the payloads of Fixtures/fuzz/container. FOLDER (default: .build/fuzz) keeps corpus and findings.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60} folder=${2:-.build/fuzz}
mkdir -p "$folder/corpus"
python3 - "$folder/corpus" <<'PY'
import pathlib, sys, zipfile
for path in pathlib.Path("Fixtures/fuzz/container").glob("*.dlc"):
    with zipfile.ZipFile(path) as archive:
        for name in ("model", "model.params"):
            # Behind the header of eight bytes lies the FlatBuffer.
            (pathlib.Path(sys.argv[1]) / f"{path.stem}.{name}").write_bytes(archive.read(name)[8:])
PY
clang=$(dirname "$(readlink -f "$(command -v swiftc)")")/clang++
"$clang" -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
  -DFLATBUFFERS_MAX_ALIGNMENT=64 -ISources/CDLCSchema/include -ISources/CDLCSchema/generated \
  scripts/fuzz/dlc_reading.cpp Sources/CDLCSchema/*.cpp -o "$folder/dlc_reading"
"$folder/dlc_reading" -max_total_time="$seconds" -max_len=40000 -rss_limit_mb=2048 -timeout=10 \
  -artifact_prefix="$folder/" -print_final_stats=1 "$folder/corpus"
