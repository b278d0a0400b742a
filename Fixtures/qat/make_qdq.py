#!/usr/bin/env python3
"""Quantizes a network by onnxruntime.quantization in several ways.

    .venv/bin/python Fixtures/qat/make_qdq.py MODEL.onnx CALIBRATION.txt OUTPUT_FOLDER [--limit N] [--only WORD]

CALIBRATION.txt lists raw float32 samples of the model's one input. BatchNormalization is folded first,
as ONNX Runtime's documentation asks for. Writes NAME.onnx for every form of FORMS.
"""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

# name: (format, activations, weights, per channel, opset)
FORMS = {
    "qdq_u8s8_tensor": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, False, 13),
    "qdq_u8s8_channel": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, True, 13),
    "qdq_s8s8_channel": (QuantFormat.QDQ, QuantType.QInt8, QuantType.QInt8, True, 21),
    "qdq_u8u8_tensor": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QUInt8, False, 21),
    "qdq_u16s8_channel": (QuantFormat.QDQ, QuantType.QUInt16, QuantType.QInt8, True, 21),
    "qdq_s16s8_tensor": (QuantFormat.QDQ, QuantType.QInt16, QuantType.QInt8, False, 13),
    "qdq_u8s4_channel": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt4, True, 21),
    "qop_u8s8_tensor": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8, False, 13),
    "qop_u8u8_tensor": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QUInt8, False, 13),
    "qop_u8s8_channel": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8, True, 13),
}


class Samples(CalibrationDataReader):
    """The samples of a list, in its order."""

    def __init__(self, model, listed, limit):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        folder = pathlib.Path(listed).parent
        paths = [line.split(":=")[-1] for line in pathlib.Path(listed).read_text().split("\n") if line]
        self.feeds = iter(
            {entry.name: np.fromfile(folder / path, np.float32).reshape(entry.shape)}
            for path in paths[:limit])

    def get_next(self):
        return next(self.feeds, None)


def at_opset(model, version):
    """The model at another version of the standard operator set."""
    current = {entry.domain: entry.version for entry in model.opset_import}[""]
    return model if current == version else onnx.version_converter.convert_version(model, version)


def make(model, listed, folder, only, limit):
    """Writes the forms whose name holds `only`."""
    folder.mkdir(parents=True, exist_ok=True)
    folded = folder / "folded.onnx"
    quant_pre_process(
        str(model), str(folded), skip_symbolic_shape=True, skip_onnx_shape=False)
    for name, (form, activations, weights, per_channel, opset) in FORMS.items():
        if only not in name:
            continue
        source = folder / f"source_{opset}.onnx"
        onnx.save(at_opset(onnx.load(folded), opset), source)
        quantize_static(
            str(source), str(folder / f"{name}.onnx"), Samples(source, listed, limit),
            quant_format=form, activation_type=activations, weight_type=weights, per_channel=per_channel)
        source.unlink()
        print(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("calibration", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    make(options.model, options.calibration, options.output, options.only, options.limit)


if __name__ == "__main__":
    sys.exit(main())
