#!/usr/bin/env python3
"""Writes networks of the field with made-up weights, and samples for them.

    scripts/make_networks.py FOLDER [NAME ...] [--samples 4] [--seed 7]

FOLDER/NAME gets model.onnx, list.txt (of --samples lines) and the .npy files that it names. Names:

    acoustic   features [1, 60, 40]: a convolution over time, a bidirectional LSTM, a GRU, LogSoftmax
    unet       image [1, 3, 64, 64]: three levels, down by MaxPool, up by ConvTranspose, joined by Concat
    superres   image [1, 1, 32, 32] three times as large: sub-pixel convolution (DepthToSpace) added to a
               bilinear Resize
    detector   image [1, 3, 96, 96]: two levels joined by a nearest Resize, decoded boxes, the best 20
    video      clip [1, 3, 8, 32, 32]: Conv, MaxPool and AveragePool over volumes
    light_*    the nine networks of the onnx wheel (light_squeezenet say), which hold no weights: seeded
               He-normal ones are put in and BatchNormalization statistics that matter. The output is what
               the final Softmax reads.

All but light_* are opset 17. Weights are seeded: the same bytes for the same arguments.
"""

import argparse
import pathlib
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIGHT = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet",
    "vgg19", "zfnet512")


class Network:
    """Nodes and constants while a graph grows; values are known by their names."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, values, dtype=np.float32):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind, *inputs, outputs=1, name=None, **attributes):
        self.count += 1
        names = [name or f"{kind.lower()}_{self.count}"] + [f"{kind.lower()}_{self.count}_{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"node_{names[0]}", **attributes))
        return names[0] if outputs == 1 else names

    def he(self, *shape, fan):
        return self.constant(self.random.normal(0, np.sqrt(2 / fan), shape))

    def bias(self, size):
        return self.constant(self.random.normal(0, 0.1, size))

    def conv(self, x, inner, outer, kernel, **attributes):
        fan = inner * int(np.prod(kernel)) // attributes.get("group", 1)
        weight = self.he(outer, inner // attributes.get("group", 1), *kernel, fan=fan)
        return self.node("Conv", x, weight, self.bias(outer), **attributes)

    def norm(self, x, size):
        gamma, beta = self.random.lognormal(0, 0.2, size), self.random.normal(0, 0.2, size)
        mean, variance = self.random.normal(0, 0.2, size), self.random.lognormal(0, 0.3, size)
        return self.node("BatchNormalization", x, *map(self.constant, (gamma, beta, mean, variance)))

    def block(self, x, inner, outer, kernel=(3, 3), **attributes):
        pads = [k // 2 for k in kernel] * 2
        x = self.norm(self.conv(x, inner, outer, kernel, pads=pads, **attributes), outer)
        return self.node("Relu", x)


def acoustic(net):
    x = net.node("Transpose", "features", perm=[0, 2, 1])
    x = net.block(x, 40, 48, (5,), strides=[2])
    x = net.node("Transpose", x, perm=[2, 0, 1])

    def layer(kind, x, inner, hidden, gates, directions, **attributes):
        weights = [
            net.constant(net.random.normal(0, 1 / np.sqrt(size), (directions, gates * hidden, size)))
            for size in (inner, hidden)]
        bias = net.constant(net.random.normal(0, 0.1, (directions, 2 * gates * hidden)))
        return net.node(kind, x, *weights, bias, hidden_size=hidden, **attributes)

    x = layer("LSTM", x, 48, 32, 4, 2, direction="bidirectional")
    x = net.node("Transpose", x, perm=[0, 2, 1, 3])
    x = net.node("Reshape", x, net.constant([0, 0, -1], np.int64))
    x = layer("GRU", x, 64, 48, 3, 1, linear_before_reset=1)
    x = net.node("Squeeze", x, net.constant([1], np.int64))
    x = net.node("MatMul", x, net.he(48, 30, fan=96))
    x = net.node("Add", x, net.bias(30))
    return {"features": [1, 60, 40]}, [net.node("LogSoftmax", x, axis=-1, name="scores")]


def unet(net):
    skips, x, width = [], "image", 3
    for size in (12, 24):
        x = net.block(net.block(x, width, size), size, size)
        skips.append((x, size))
        x, width = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), size
    x, width = net.block(x, width, 48), 48
    for skip, size in reversed(skips):
        weight = net.he(width, size, 2, 2, fan=width)
        x = net.node("ConvTranspose", x, weight, net.bias(size), strides=[2, 2])
        x = net.block(net.node("Concat", skip, x, axis=1), 2 * size, size)
        width = size
    x = net.conv(x, width, 4, (1, 1))
    return {"image": [1, 3, 64, 64]}, [net.node("Softmax", x, axis=1, name="classes")]


def superres(net):
    x = net.node("Relu", net.conv("image", 1, 32, (5, 5), pads=[2] * 4))
    for inner, outer in ((32, 32), (32, 16)):
        x = net.node("Relu", net.conv(x, inner, outer, (3, 3), pads=[1] * 4))
    x = net.node("DepthToSpace", net.conv(x, 16, 9, (3, 3), pads=[1] * 4), blocksize=3, mode="CRD")
    scales = net.constant([1, 1, 3, 3])
    base = net.node(
        "Resize", "image", "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return {"image": [1, 1, 32, 32]}, [net.node("Add", base, x, name="large")]


def detector(net):
    x = net.block("image", 3, 16, strides=[2, 2])
    x = net.block(x, 16, 16, group=16)
    fine = net.block(x, 16, 32, strides=[2, 2])
    coarse = net.block(fine, 32, 48, strides=[2, 2])
    top = net.conv(coarse, 48, 24, (1, 1))
    wide = net.node("Resize", top, "", net.constant([1, 1, 2, 2]), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    levels = [(net.node("Add", net.conv(fine, 32, 24, (1, 1)), wide), 24), (top, 12)]
    scores, boxes = [], []
    for level, size in levels:
        level = net.node("LeakyRelu", net.conv(level, 24, 24, (3, 3), pads=[1] * 4), alpha=0.1)
        for outer, parts in ((3, scores), (8, boxes)):
            part = net.conv(level, 24, outer if outer == 3 else 4, (1, 1))
            part = net.node("Transpose", part, perm=[0, 2, 3, 1])
            parts.append(net.node("Reshape", part, net.constant([1, size * size, -1], np.int64)))
    score = net.node("Sigmoid", net.node("Concat", *scores, axis=1))
    box = net.node("Concat", *boxes, axis=1)
    center, extent = net.node("Split", box, net.constant([2, 2], np.int64), outputs=2, axis=2)
    anchors = np.concatenate([
        np.stack(np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij"), -1).reshape(-1, 2)
        for _, size in levels])
    center = net.node("Add", net.node("Mul", center, net.constant(0.05)), net.constant(anchors[None]))
    extent = net.node("Exp", net.node("Clip", extent, net.constant(-3), net.constant(1)))
    half = net.node("Mul", extent, net.constant(0.1))
    corners = net.node("Concat", net.node("Sub", center, half), net.node("Add", center, half), axis=2)
    best = net.node("ReduceMax", score, axes=[2], keepdims=0)
    values, places = net.node("TopK", best, net.constant([20], np.int64), outputs=2, axis=1)
    places = net.node("Unsqueeze", places, net.constant([2], np.int64))
    chosen = net.node("GatherND", corners, places, batch_dims=1, name="boxes")
    values = net.node("Identity", values, name="values")
    return {"image": [1, 3, 96, 96]}, [chosen, values]


def video(net):
    x = net.block("clip", 3, 8, (3, 3, 3), strides=[1, 2, 2])
    x = net.node("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = net.block(x, 8, 16, (3, 3, 3))
    x = net.node("AveragePool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    x = net.node("Gemm", x, net.he(10, 16, fan=16), net.bias(10), transB=1, name="scores")
    return {"clip": [1, 3, 8, 32, 32]}, [x]


NETWORKS = {
    "acoustic": acoustic, "unet": unet, "superres": superres, "detector": detector, "video": video}


def built(name, seed):
    """A network of this file and the shapes of its inputs."""
    net = Network(seed)
    inputs, outputs = NETWORKS[name](net)
    graph = helper.make_graph(
        net.nodes, name,
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    model = onnx.shape_inference.infer_shapes(model)
    return model, inputs


def lightened(name, seed):
    """A light network of the onnx wheel with weights, cut before its Softmax."""
    path = pathlib.Path(onnx.__file__).parent / "backend/test/data/light" / f"{name}.onnx"
    model = onnx.load(path)
    graph, random = model.graph, np.random.default_rng(seed)
    shapes = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    readers = {}
    for node in graph.node:
        for slot, key in enumerate(node.input):
            readers.setdefault(key, (node, slot))
    made, kept, used = [], [], set()
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.output[0] not in readers:
            kept.append(node)
            continue
        shape = tuple(int(size) for size in shapes[node.input[0]])
        used.add(node.input[0])
        reader, slot = readers[node.output[0]]
        while reader.op_type in ("Unsqueeze", "Reshape"):
            reader, slot = readers[reader.output[0]]
        made.append(numpy_helper.from_array(
            weights(random, reader, slot, shape).astype(np.float32), node.output[0]))
    last = kept[-1]
    if last.op_type == "Softmax":
        kept.pop()
        graph.output[0].name = last.input[0]
        del graph.output[0].type.tensor_type.shape.dim[:]
        graph.output[0].type.tensor_type.ClearField("shape")
    initializers = [item for item in graph.initializer if item.name not in used] + made
    known = {item.name for item in initializers}
    inputs = [item for item in graph.input if item.name not in used and item.name not in known]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)
    graph.input.extend(inputs)
    model.ir_version = 8  # Before 4, initializers are inputs too.
    return model, {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim] for item in inputs}


def weights(random, reader, slot, shape):
    """Values for an operand: He-normal for products, statistics that matter for BatchNormalization."""
    if reader.op_type == "BatchNormalization":
        return random.lognormal(0, 0.2, shape) if slot in (1, 4) else random.normal(0, 0.2, shape)
    if reader.op_type == "Mul":
        return random.lognormal(0, 0.2, shape)
    if len(shape) == 1 or reader.op_type == "Add":
        return random.normal(0, 0.1, shape)
    attributes = {item.name: item.i for item in reader.attribute}
    fan = np.prod(shape[1:]) if reader.op_type == "Conv" or attributes.get("transB") else shape[0]
    return random.normal(0, np.sqrt(2 / fan), shape)


def write(folder, name, samples=4, seed=7):
    """Writes one network with its samples; the path of the model."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = [seed, zlib.crc32(name.encode())]
    model, inputs = built(name, own) if name in NETWORKS else lightened(name, own)
    path = folder / "model.onnx"
    onnx.save(model, path)
    random = np.random.default_rng([*own, 1])
    lines = []
    for sample in range(samples):
        parts = []
        for number, (key, shape) in enumerate(inputs.items()):
            file = folder / f"sample{sample}_{number}.npy"
            np.save(file, random.normal(0, 1, shape).astype(np.float32))
            parts.append(f"{key}:={file.name}")
        lines.append(" ".join(parts))
    (folder / "list.txt").write_text("".join(f"{line}\n" for line in lines))
    return path


def main():
    names = [*NETWORKS, *(f"light_{name}" for name in LIGHT)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help="default: all")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for name in options.names or names:
        print(write(options.folder / name, name, options.samples, options.seed))


if __name__ == "__main__":
    main()
