#!/usr/bin/env bash
# Sets up, builds, and takes the digits network from .onnx to an int8 container whose accuracy is
# measured: `./scripts/demo.sh`. Results are left in out/.
set -euo pipefail
cd "$(dirname "$0")/.."
QTOOLS_SKIP_PYTHON=1 ./scripts/setup.sh
echo "== build (the first one takes some minutes)"
# The same flags as in test.sh: whichever comes first, the other finds its work done.
swift build -c release -Xswiftc -enable-testing
mkdir -p out
export PATH="$PWD/.build/release:$PATH"
data=Fixtures/digits

echo "== convert"
qconvert --input_network $data/digits.onnx --output_path out/digits.dlc
echo "== quantize: 8-bit weights and activations from the calibration list"
qquantize --input_dlc out/digits.dlc --input_list $data/calibration.txt \
  --output_dlc out/digits_int8.dlc --use_per_channel_quantization --bias_bitwidth 32
echo "== encodings by layer"
qinspect encodings out/digits_int8.dlc --by layer
echo "== accuracy on images that took no part in training or calibration"
qrun evaluate out/digits.dlc out/digits_int8.dlc --input_list $data/test.txt \
  --labels $data/test_labels.txt --top_k 1
echo "== what quantization did to every tensor (out/digits_int8.html shows it in pictures)"
qrun compare out/digits_int8.dlc --against $data/digits.onnx --input_list $data/calibration.txt --top 3 \
  --html out/digits_int8.html
