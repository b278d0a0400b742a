#!/usr/bin/env bash
# Sets up and runs all tests: `./scripts/test.sh`. One build: release with testing enabled.
set -euo pipefail
cd "$(dirname "$0")/.."
./scripts/setup.sh

echo "== format"
swift format lint --strict --recursive --parallel Package.swift Sources Tests

echo "== generated files"
./scripts/check-generated.sh

echo "== build and unit tests"
swift build -c release -Xswiftc -enable-testing --build-tests
swift test -c release -Xswiftc -enable-testing --skip-build

echo "== peers: ONNX Runtime and Netron on our own fixtures"
.venv/bin/python scripts/peer_tests.py --bin .build/release

echo "== integer execution, on several instruction sets"
.venv/bin/python scripts/integer_checks.py --bin .build/release --unit

echo "== ONNX backend tests"
.venv/bin/python scripts/conformance.py --bin .build/release --expect --programs 50

if [ -d ../shared/models ]; then
  echo "== networks beside the repository"
  ./scripts/model-figures.sh --check
else
  echo "skipped: 1 (networks beside the repository: no folder ../shared/models)"
fi
