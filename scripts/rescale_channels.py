#!/usr/bin/env python3
"""Rescales the channels of a network at random without changing its function.

    scripts/rescale_channels.py MODEL.onnx OUTPUT.onnx [--factor 1000] [--seed 0]

Behind every Conv or Gemm whose output another one reads, with nothing but Relu,
LeakyRelu and pooling between, each channel is multiplied by a factor from
1/FACTOR to FACTOR (equally likely on a logarithmic scale) and the next weights
are divided by it. BatchNormalization behind a convolution is scaled in its
place. Such networks are what equalization is for: 8 bits per tensor collapse.
"""

import argparse
import collections
import sys

import numpy
import onnx
from onnx import numpy_helper

PASSING = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Dropout", "Identity"}
FLATTENING = {"Flatten", "Reshape"}


class Network:
    """A model and its constants by name."""

    def __init__(self, model):
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.readers = collections.defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)
        self.outputs = {value.name for value in model.graph.output}

    def only_reader(self, name):
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def array(self, name):
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def store(self, name, values):
        self.constants[name].CopyFrom(numpy_helper.from_array(values.astype(numpy.float32), name))


def attribute(node, name, default):
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def scale_outputs(network, node, factors):
    """Multiplies the channels that a layer makes; False where its parameters are not its own."""
    if node.op_type == "BatchNormalization":
        for name in node.input[1:3]:
            network.store(name, network.array(name) * factors)
        return
    weight = network.array(node.input[1])
    if node.op_type == "Conv" or attribute(node, "transB", 0):
        scaled = weight * factors.reshape([-1] + [1] * (weight.ndim - 1))
    else:
        scaled = weight * factors
    network.store(node.input[1], scaled)
    if len(node.input) > 2:
        network.store(node.input[2], network.array(node.input[2]) * factors)


def divide_inputs(network, node, factors):
    """Divides the weights that read channels."""
    weight = network.array(node.input[1])
    if node.op_type == "Conv":
        group = attribute(node, "group", 1)
        parts = numpy.split(weight, group)
        each = len(factors) // group
        parts = [part / factors[k * each:(k + 1) * each].reshape([1, -1] + [1] * (weight.ndim - 2))
                 for k, part in enumerate(parts)]
        network.store(node.input[1], numpy.concatenate(parts))
        return
    transposed = attribute(node, "transB", 0)
    columns = weight if transposed else weight.T
    # A flattened image has all positions of a channel side by side.
    network.store(node.input[1], (columns / numpy.repeat(factors, columns.shape[1] // len(factors)))
                  if transposed else (columns / numpy.repeat(factors, columns.shape[1] // len(factors))).T)


def channels_of(network, node):
    weight = network.array(node.input[1])
    if weight is None or any(name and name not in network.constants for name in node.input[2:]):
        return None
    if node.op_type == "BatchNormalization":
        return len(weight)
    return weight.shape[0] if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.shape[1]


def follow(network, node):
    """The layer behind a layer's output, and what scales that output: (source, reader) or None."""
    source, tensor = node, node.output[0]
    while True:
        reader = network.only_reader(tensor)
        if reader is None or reader.input[0] != tensor:
            return None
        if reader.op_type in ("Conv", "Gemm"):
            return source, reader
        if reader.op_type == "BatchNormalization" and tensor == source.output[0]:
            source = reader
        elif reader.op_type not in PASSING | FLATTENING:
            return None
        tensor = reader.output[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--factor", type=float, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = onnx.load(arguments.model)
    network, random = Network(model), numpy.random.default_rng(arguments.seed)
    pairs = 0
    for node in model.graph.node:
        found = follow(network, node) if node.op_type in ("Conv", "Gemm") else None
        if found is None or channels_of(network, found[1]) is None:
            continue
        source, reader = found
        channels = channels_of(network, source)
        if channels is None:
            continue
        limit = numpy.log(arguments.factor)
        factors = numpy.exp(random.uniform(-limit, limit, channels))
        scale_outputs(network, source, factors)
        divide_inputs(network, reader, factors)
        pairs += 1
    if not pairs:
        sys.exit("error: no two layers follow each other")
    onnx.checker.check_model(model)
    onnx.save(model, arguments.output)
    print(f"{pairs} pairs of layers rescaled")


if __name__ == "__main__":
    main()
