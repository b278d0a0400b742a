#!/usr/bin/env python3
"""Writes a small BERT-like encoder with made-up weights, and samples for it.

    scripts/make_encoder.py FOLDER [--opset 13] [--samples 16] [--seed 7] [--tokens 32] [--hidden 128]
                            [--heads 4] [--inner 512] [--layers 2]

FOLDER gets encoder.onnx, list.txt (of --samples lines) and the .npy files that it names. Inputs are
input_ids int64 [1, tokens] and attention_mask int64 [1, tokens], 1 where a token counts; output is
last_hidden_state [1, tokens, hidden]. Two layers of four heads, 512 wide inside, unless told otherwise. The graph is what PyTorch
exports: the mask becomes (1 - mask) * -3.4028235e38 and is added to the scores, shapes are computed,
and below opset 17 layer normalization and below 20 Gelu are spelled out. Weights are seeded, with
the habits of trained encoders that make quantizing hard: a few channels of the residual stream are
far larger than the others. The same bytes for the same arguments.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY = 200
OUTLIERS = (17, 77, 101)  # Channels of the residual stream.


@dataclasses.dataclass(frozen=True)
class Sizes:
    tokens: int = 32
    hidden: int = 128
    heads: int = 4
    inner: int = 512
    layers: int = 2


class Network:
    """Nodes and constants while the graph grows."""

    def __init__(self, opset, seed, sizes):
        self.opset, self.random, self.sizes = opset, np.random.default_rng(seed), sizes
        self.nodes, self.constants = [], []

    def constant(self, name, values, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def weights(self, name, *shape, scale):
        """Heavy tails, as trained matrices have."""
        values = self.random.standard_t(6, shape) * scale
        return self.constant(name, values)

    def numbers(self, name, *values):
        return self.constant(name, values, np.int64)

    def over_axes(self, kind, value, name, axes, **attributes):
        """An operator whose axes became an input with opset 13 (ReduceMean: 18)."""
        if kind == "ReduceMean" and self.opset < 18:
            return self.node(kind, [value], name, axes=axes, **attributes)
        return self.node(kind, [value, self.numbers(f"{name}.axes", *axes)], name, **attributes)

    def linear(self, value, name, inner, outer, gain=1.0):
        weight = self.weights(f"{name}.weight", inner, outer, scale=gain / np.sqrt(inner))
        bias = self.weights(f"{name}.bias", outer, scale=0.05)
        return self.node("Add", [bias, self.node("MatMul", [value, weight], f"{name}.product")], name)

    def layer_norm(self, value, name):
        gamma = self.random.lognormal(0, 0.2, self.sizes.hidden)
        gamma[list(OUTLIERS)] *= 6
        gamma = self.constant(f"{name}.gamma", gamma)
        beta = self.weights(f"{name}.beta", self.sizes.hidden, scale=0.1)
        if self.opset >= 17:
            return self.node("LayerNormalization", [value, gamma, beta], name, axis=-1, epsilon=1e-12)
        mean = self.over_axes("ReduceMean", value, f"{name}.mean", [-1])
        distance = self.node("Sub", [value, mean], f"{name}.distance")
        square = self.node("Pow", [distance, self.constant(f"{name}.two", 2.0)], f"{name}.square")
        variance = self.over_axes("ReduceMean", square, f"{name}.variance", [-1])
        shifted = self.node("Add", [variance, self.constant(f"{name}.epsilon", 1e-12)], f"{name}.shifted")
        root = self.node("Sqrt", [shifted], f"{name}.root")
        unit = self.node("Div", [distance, root], f"{name}.unit")
        return self.node("Add", [self.node("Mul", [unit, gamma], f"{name}.scaled"), beta], name)

    def gelu(self, value, name):
        if self.opset >= 20:
            return self.node("Gelu", [value], name)
        ratio = self.node("Div", [value, self.constant(f"{name}.root2", np.sqrt(2))], f"{name}.ratio")
        erf = self.node("Erf", [ratio], f"{name}.erf")
        raised = self.node("Add", [erf, self.constant(f"{name}.one", 1.0)], f"{name}.raised")
        product = self.node("Mul", [value, raised], f"{name}.double")
        return self.node("Mul", [product, self.constant(f"{name}.half", 0.5)], name)

    def heads(self, value, name, order):
        """[1, tokens, hidden] as heads, by the shape arithmetic of an export."""
        shape = self.node("Shape", [value], f"{name}.shape")
        parts = []
        for axis in (0, 1):
            index = self.constant(f"{name}.index{axis}", axis, np.int64)
            size = self.node("Gather", [shape, index], f"{name}.size{axis}", axis=0)
            parts.append(self.over_axes("Unsqueeze", size, f"{name}.list{axis}", [0]))
        rest = [self.numbers(f"{name}.heads", self.sizes.heads), self.numbers(f"{name}.depth", self.sizes.hidden // self.sizes.heads)]
        target = self.node("Concat", parts + rest, f"{name}.target", axis=0)
        apart = self.node("Reshape", [value, target], f"{name}.apart")
        return self.node("Transpose", [apart], f"{name}.turned", perm=order)

    def attention(self, value, name, mask):
        query, key, content = (
            self.linear(value, f"{name}.{part}", self.sizes.hidden, self.sizes.hidden, 0.7 if part != "value" else 1.0)
            for part in ("query", "key", "value"))
        query = self.heads(query, f"{name}.q", [0, 2, 1, 3])
        key = self.heads(key, f"{name}.k", [0, 2, 3, 1])
        content = self.heads(content, f"{name}.v", [0, 2, 1, 3])
        scores = self.node("MatMul", [query, key], f"{name}.scores")
        root = self.constant(f"{name}.root", np.sqrt(self.sizes.hidden / self.sizes.heads))
        scaled = self.node("Div", [scores, root], f"{name}.scaled")
        masked = self.node("Add", [scaled, mask], f"{name}.masked")
        weights = self.node("Softmax", [masked], f"{name}.weights", axis=-1)
        context = self.node("MatMul", [weights, content], f"{name}.context")
        turned = self.node("Transpose", [context], f"{name}.back", perm=[0, 2, 1, 3])
        joined = self.node("Reshape", [turned, self.numbers(f"{name}.joining", 0, 0, self.sizes.hidden)], f"{name}.joined")
        return self.linear(joined, f"{name}.output", self.sizes.hidden, self.sizes.hidden)

    def layer(self, value, name, mask):
        attended = self.node("Add", [self.attention(value, f"{name}.attention", mask), value], f"{name}.residual")
        attended = self.layer_norm(attended, f"{name}.attention.norm")
        inner = self.gelu(self.linear(attended, f"{name}.inner", self.sizes.hidden, self.sizes.inner), f"{name}.gelu")
        outer = self.linear(inner, f"{name}.outer", self.sizes.inner, self.sizes.hidden)
        return self.layer_norm(self.node("Add", [outer, attended], f"{name}.sum"), f"{name}.norm")

    def mask(self):
        wide = self.over_axes("Unsqueeze", "attention_mask", "mask.wide", [1, 2])
        number = self.node("Cast", [wide], "mask.number", to=TensorProto.FLOAT)
        hidden = self.node("Sub", [self.constant("mask.one", 1.0), number], "mask.hidden")
        lowest = self.constant("mask.lowest", np.finfo(np.float32).min)
        return self.node("Mul", [hidden, lowest], "mask")


def make_model(opset, seed, sizes):
    network = Network(opset, seed, sizes)
    words = network.weights("words", VOCABULARY, sizes.hidden, scale=1.0)
    places = network.weights("places", 1, sizes.tokens, sizes.hidden, scale=0.3)
    value = network.node("Add", [network.node("Gather", [words, "input_ids"], "word"), places], "embedded")
    value = network.layer_norm(value, "embedding.norm")
    mask = network.mask()
    for layer in range(sizes.layers):
        value = network.layer(value, f"layer{layer}", mask)
    network.nodes[-1].output[0] = "last_hidden_state"
    integers = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, sizes.tokens])
        for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [1, sizes.tokens, sizes.hidden])
    graph = helper.make_graph(network.nodes, "encoder", integers, [output], network.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_samples(folder, count, seed, sizes):
    random = np.random.default_rng(seed + 1)
    lines = []
    for sample in range(count):
        length = int(random.integers(sizes.tokens // 4, sizes.tokens + 1))
        mask = (np.arange(sizes.tokens) < length).astype(np.int64)[None]
        ids = np.where(mask == 1, random.integers(1, VOCABULARY, (1, sizes.tokens)), 0).astype(np.int64)
        np.save(folder / f"ids_{sample}.npy", ids)
        np.save(folder / f"mask_{sample}.npy", mask)
        lines.append(f"input_ids:=ids_{sample}.npy attention_mask:=mask_{sample}.npy\n")
    (folder / "list.txt").write_text("".join(lines))


def write(folder, opset=13, samples=16, seed=7, sizes=Sizes()):
    """Model, list and samples; the path of the model."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(make_model(opset, seed, sizes), folder / "encoder.onnx")
    write_samples(folder, samples, seed, sizes)
    return folder / "encoder.onnx"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--opset", type=int, default=13)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    for field in dataclasses.fields(Sizes):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    options = parser.parse_args()
    sizes = Sizes(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Sizes)})
    write(options.folder, options.opset, options.samples, options.seed, sizes)


if __name__ == "__main__":
    main()
