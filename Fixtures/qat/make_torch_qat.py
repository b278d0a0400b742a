#!/usr/bin/env python3
"""Trains a small network with PyTorch's fake quantization and exports it as ONNX.

    python -m venv V && V/bin/pip install torch onnx onnxruntime onnxscript
    V/bin/python Fixtures/qat/make_torch_qat.py

Writes torch_qat.onnx (opset 17), input.npy and output.npy (ONNX Runtime's, graph optimizations off) beside
this file. Weights are fake-quantized per channel (symmetric), activations per tensor; biases
stay float, as PyTorch exports them. Neither PyTorch nor this script is needed to test: the files are kept.
"""

import pathlib

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.ao.quantization import (
    FakeQuantize, MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver, disable_observer)

HERE = pathlib.Path(__file__).resolve().parent


def activation():
    return FakeQuantize(MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8)


def weight():
    return FakeQuantize(
        MovingAveragePerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric, ch_axis=0)


class Layer(nn.Module):
    """A layer whose weights are fake-quantized."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.quantize = layer, weight()

    def forward(self, x):
        weights = self.quantize(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weights, self.layer.bias)
        return nn.functional.conv2d(
            x, weights, self.layer.bias, self.layer.stride, self.layer.padding, groups=self.layer.groups)


class Network(nn.Module):
    """Convolutions, a depthwise one, a sum, a pool, a fully connected layer."""

    def __init__(self):
        super().__init__()
        self.first = Layer(nn.Conv2d(1, 8, 3, padding=1))
        self.depthwise = Layer(nn.Conv2d(8, 8, 3, padding=1, groups=8))
        self.pointwise = Layer(nn.Conv2d(8, 8, 1))
        self.last = Layer(nn.Linear(8 * 16, 10))
        self.quantizers = nn.ModuleList(activation() for _ in range(6))

    def forward(self, image):
        q = self.quantizers
        x = q[0](image)
        x = q[1](torch.relu(self.first(x)))
        y = q[2](torch.relu(self.depthwise(x)))
        y = q[3](self.pointwise(y))
        x = q[4](x + y)
        x = nn.functional.max_pool2d(x, 2)
        return q[5](self.last(torch.flatten(x, 1)))


def main():
    torch.manual_seed(7)
    random = np.random.default_rng(7)
    images = torch.tensor(random.normal(size=(256, 1, 8, 8)).astype(np.float32))
    labels = (images.sum((1, 2, 3)) * 2).long().clamp(-5, 4) + 5
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    network.apply(disable_observer)
    network.eval()
    target = HERE / "torch_qat.onnx"
    torch.onnx.export(
        network, (images[:1],), str(target), opset_version=17, dynamo=False, input_names=["image"],
        output_names=["logits"])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    samples = images[:16].numpy()
    outputs = np.concatenate([session.run(None, {"image": sample[None]})[0] for sample in samples])
    np.save(HERE / "input.npy", samples)
    np.save(HERE / "output.npy", outputs)


if __name__ == "__main__":
    main()
