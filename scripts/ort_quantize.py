#!/usr/bin/env python3
"""Quantizes a model with ONNX Runtime's static quantization, for bench_calibration.py to time.

    ort_quantize.py MODEL.onnx LIST OUTPUT.onnx --method MinMax|Percentile|Entropy

LIST names raw float32 files, one a line, for the model's only input.
"""

import argparse
import logging
import pathlib

import numpy
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader


class Samples(CalibrationDataReader):
    """The files of a list, read one at a time."""

    def __init__(self, name, shape, files):
        self.name, self.shape, self.files = name, shape, iter(files)

    def get_next(self):
        path = next(self.files, None)
        if path is None:
            return None
        return {self.name: numpy.fromfile(path, numpy.float32).reshape(self.shape)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("list", type=pathlib.Path)
    parser.add_argument("output")
    parser.add_argument("--method", choices=["MinMax", "Percentile", "Entropy"], required=True)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    model = onnx.load(arguments.model)
    weights = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in weights)
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    quantize_static(
        arguments.model, arguments.output, Samples(value.name, shape, arguments.list.read_text().split("\n")[:-1]),
        quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=getattr(CalibrationMethod, arguments.method),
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True})


if __name__ == "__main__":
    main()
