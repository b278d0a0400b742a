#!/usr/bin/env bash
# Regenerates the committed code of Schemas/: protobuf-c's for onnx.proto and
# FlatBuffers' for dlc.fbs. With a folder as argument the files go there
# instead, under the same relative paths (scripts/check-generated.sh).
#
# Usage: scripts/generate.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-.}

need() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "generate.sh: error: '$1' not found" >&2
    echo "hint: run scripts/setup.sh, or install the package $2" >&2
    exit 1
}
need protoc-c protobuf-c-compiler

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

protoc-c --proto_path=Schemas --c_out="$work" Schemas/onnx.proto
mkdir -p "$target/Sources/COnnxProto/include"
mv "$work/onnx.pb-c.h" "$target/Sources/COnnxProto/include/onnx.pb-c.h"
mv "$work/onnx.pb-c.c" "$target/Sources/COnnxProto/onnx.pb-c.c"

if [ -f Schemas/dlc.fbs ]; then
    need flatc flatbuffers-compiler
    mkdir -p "$target/Sources/CDLCSchema/generated"
    flatc --cpp -o "$target/Sources/CDLCSchema/generated" Schemas/dlc.fbs
fi
