#!/usr/bin/env bash
# Exit code 1 when the committed generated code is not what Schemas/ gives.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/generate.sh "$fresh"

failed=0
while IFS= read -r file; do
    if [ ! -f "$file" ]; then
        echo "check-generated.sh: error: $file is missing" >&2
        failed=1
    elif ! diff -u "$file" "$fresh/$file" >"$fresh.diff"; then
        echo "check-generated.sh: error: $file differs from what its schema gives:" >&2
        head -n 20 "$fresh.diff" >&2
        failed=1
    fi
    rm -f "$fresh.diff"
done < <(cd "$fresh" && find . -type f | sed 's|^\./||' | sort)

if [ "$failed" -ne 0 ]; then
    echo "hint: regenerate with scripts/generate.sh and commit the result (tools: $(protoc-c --version | head -n 1), $(flatc --version 2>/dev/null || echo 'no flatc'))" >&2
    exit 1
fi
echo "generated code is up to date"
