#!/usr/bin/env python3
"""Writes the minimal ONNX models of the importer's and the kernels' tests.

    .venv/bin/python Fixtures/minimal/make_minimal.py

For each case a folder NAME/ with model.onnx, inputs/K.npy and outputs/K.npy (K is
the position among the model's inputs and outputs), the outputs computed by ONNX
Runtime with its optimizations off. cases.json lists all of them, and the broken
models (broken/NAME/model.onnx) with what is wrong. README.md tells more.
"""

import json
import pathlib
import shutil
import zlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).resolve().parent
IR_OF_OPSET = {6: 3, 7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}
F = np.float32
cases, broken = [], []


def seeded(name):
    """Random numbers that depend on the case's name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def node(op, inputs, outputs="y", **attributes):
    """Inputs and outputs as text separated by spaces; '_' is an absent one."""
    names = lambda text: ["" if n == "_" else n for n in text.split()]
    return helper.make_node(op, names(inputs), names(outputs), **attributes)


def typed(name, array, data_type=None):
    """An initializer in the typed fields (float_data, int64_data ...), not raw_data."""
    array = np.asarray(array)
    data_type = data_type or helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor(name, data_type, array.shape, array.flatten().tolist())


def raw(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def tensors(values):
    return [v if isinstance(v, TensorProto) else raw(k, v) for k, v in (values or {}).items()]


def build(name, nodes, inputs, constants, outputs, opset, ir, shapes=None, listed=(), functions=()):
    """inputs: name -> shape or array; listed: initializers that are graph inputs, too."""
    declared = [
        helper.make_tensor_value_info(
            k, helper.np_dtype_to_tensor_dtype(v.dtype), (shapes or {}).get(k, v.shape)
        )
        for k, v in inputs.items()
    ]
    initializers = tensors(constants)
    ir = ir or IR_OF_OPSET.get(opset, 9)
    if ir < 4:
        listed = [t.name for t in initializers]
    declared += [
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in initializers
        if t.name in listed
    ]
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(f.domain, 1) for f in functions]
    return helper.make_model(
        helper.make_graph(nodes, name, declared, outputs, initializers),
        producer_name="make_minimal.py",
        ir_version=ir,
        opset_imports=imports,
        functions=functions,
    )


def case(name, note, nodes, inputs, constants=None, *, opset=13, ir=None, outputs="y",
         types=None, external=None, **more):
    """One model. inputs: name -> shape (normal random float32) or array."""
    rng = seeded(name)
    nodes = nodes if isinstance(nodes, list) else [nodes]
    inputs = {
        k: v if isinstance(v, np.ndarray) else rng.standard_normal(v).astype(F)
        for k, v in inputs.items()
    }
    names = outputs.split()
    types = types or {}
    unknown = [
        helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), None) for n in names
    ]
    model = build(name, nodes, inputs, constants, unknown, opset, ir, **more)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results = session.run(names, inputs)

    # The outputs' shapes are known now; a model with a symbolic batch keeps it.
    for info, result in zip(model.graph.output, results):
        shape = (["N"] if more.get("shapes") else [result.shape[0]]) if result.ndim else []
        info.CopyFrom(helper.make_tensor_value_info(
            info.name, helper.np_dtype_to_tensor_dtype(result.dtype), [*shape, *result.shape[1:]]))
    folder = FOLDER / name
    for part in ("inputs", "outputs"):
        (folder / part).mkdir(parents=True)
    if external:
        place_outside(model, folder, **external)
    else:
        onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())

    def save(part, arrays):
        entries = []
        for k, (key, value) in enumerate(arrays):
            np.save(folder / part / f"{k}.npy", np.ascontiguousarray(value))
            entries.append({"name": key, "file": f"{name}/{part}/{k}.npy",
                            "type": str(value.dtype), "shape": list(value.shape)})
        return entries

    cases.append({
        "name": name,
        "model": f"{name}/model.onnx",
        "about": note,
        "opset": opset,
        "ir_version": model.ir_version,
        "operators": sorted({n.op_type for n in nodes}),
        "inputs": save("inputs", inputs.items()),
        "outputs": save("outputs", zip(names, results)),
    })


def place_outside(model, folder, location="weights.bin", offsets=True, pad=0):
    """Moves every initializer's bytes into a file beside the model."""
    blob = b""
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        blob += b"\xff" * pad
        onnx.external_data_helper.set_external_data(
            tensor, location,
            offset=len(blob) if offsets else None,
            length=len(data) if offsets else None)
        tensor.ClearField("raw_data")
        blob += data
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    (folder / location).write_bytes(blob)


def fault(name, problem, nodes, inputs, constants=None, *, opset=13, outputs="y", change=None):
    inputs = {k: np.zeros(v, F) for k, v in inputs.items()}
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs.split()]
    model = build(name, nodes, inputs, constants, infos, opset, None)
    if change:
        change(model)
    (FOLDER / "broken" / name).mkdir(parents=True)
    (FOLDER / "broken" / name / "model.onnx").write_bytes(model.SerializeToString())
    broken.append({"name": name, "model": f"broken/{name}/model.onnx", "problem": problem})


def weights(name, *shape):
    return seeded(name + "/weights").standard_normal(shape).astype(F)


def ints(*values):
    return np.array(values, np.int64)


# ------------------------------------------------------------------ the cases


def convolutions():
    def conv(name, note, x, w, bias=False, opset=13, **attributes):
        constants = {"w": weights(name, *w)}
        if bias:
            constants["b"] = weights(name + "b", w[0])
        case(name, note, node("Conv", "x w b" if bias else "x w", **attributes), {"x": x},
             constants, opset=opset)

    conv("conv_default", "no attribute, no bias: kernel from the weight", (1, 2, 6, 5), (3, 2, 3, 2))
    conv("conv_all", "asymmetric pads, strides, bias", (1, 3, 7, 8), (4, 3, 3, 3), True,
         kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 1], dilations=[1, 1], group=1,
         auto_pad="NOTSET")
    conv("conv_opset1", "first form, opset 7", (1, 2, 5, 5), (3, 2, 3, 3), True, opset=7,
         kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        conv(f"conv_{mode.lower()}", f"auto_pad {mode}, stride 2, odd total padding", (1, 2, 8, 7),
             (3, 2, 3, 4), auto_pad=mode, strides=[2, 2])
    conv("conv_dilated", "dilations differ by axis", (1, 2, 9, 9), (2, 2, 3, 3),
         dilations=[2, 3], pads=[1, 2, 1, 2])
    conv("conv_group", "two groups with bias", (1, 4, 5, 5), (6, 2, 3, 3), True, group=2)
    conv("conv_depthwise", "group = channels", (1, 4, 6, 6), (4, 1, 3, 3), True, group=4,
         pads=[1, 1, 1, 1])
    conv("conv_depthwise_strided", "group = channels, stride 2, pads at the end only",
         (1, 3, 8, 8), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[0, 0, 1, 1])
    conv("conv_depthwise_multiplier", "group = channels, two outputs a channel", (1, 3, 5, 5),
         (6, 1, 3, 3), True, group=3)
    conv("conv_pointwise", "1x1", (1, 5, 4, 3), (7, 5, 1, 1), True)
    conv("conv_batch", "batch of 2", (2, 3, 5, 4), (2, 3, 3, 3), pads=[1, 1, 1, 1])
    conv("conv_1d", "one spatial axis", (1, 3, 10), (4, 3, 3), True, strides=[2], pads=[1, 0])
    conv("conv_1d_group", "one spatial axis, depthwise, dilated", (1, 4, 12), (4, 1, 3), group=4,
         dilations=[2])
    w = weights("conv_constant_node", 3, 2, 3, 3)
    case("conv_constant_node", "weight from a Constant node",
         [node("Constant", "", "w", value=raw("value", w)), node("Conv", "x w")], {"x": (1, 2, 5, 5)})
    case("conv_relu_conv", "two convolutions, an activation between",
         [node("Conv", "x w1 b1", "a", pads=[1] * 4), node("Relu", "a", "r"),
          node("Conv", "r w2", pads=[1] * 4)], {"x": (1, 3, 6, 5)},
         {"w1": weights("crc1", 4, 3, 3, 3), "b1": weights("crcb", 4), "w2": weights("crc2", 2, 4, 3, 3)})


def pools():
    def pool(name, note, op, x, opset=13, **attributes):
        case(name, note, node(op, "x", **attributes), {"x": x}, opset=opset)

    pool("maxpool_default", "stride 1 by default", "MaxPool", (1, 2, 5, 6), kernel_shape=[2, 3])
    pool("maxpool_all", "pads, strides", "MaxPool", (1, 2, 7, 8), kernel_shape=[3, 3],
         pads=[1, 0, 1, 1], strides=[2, 2])
    pool("maxpool_ceil", "ceil_mode", "MaxPool", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2],
         ceil_mode=1)
    pool("maxpool_same_upper", "auto_pad", "MaxPool", (1, 2, 7, 6), kernel_shape=[2, 3],
         strides=[2, 2], auto_pad="SAME_UPPER")
    pool("maxpool_same_lower", "auto_pad", "MaxPool", (1, 2, 7, 6), kernel_shape=[2, 3],
         strides=[2, 2], auto_pad="SAME_LOWER")
    pool("maxpool_dilated", "dilations, from opset 10", "MaxPool", (1, 1, 8, 8), opset=10,
         kernel_shape=[2, 2], dilations=[2, 3])
    pool("maxpool_opset7", "opset 7", "MaxPool", (1, 2, 4, 4), opset=7, kernel_shape=[2, 2],
         strides=[2, 2])
    pool("avgpool_exclude", "padding not counted (default)", "AveragePool", (1, 2, 5, 5),
         kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    pool("avgpool_include", "padding counted", "AveragePool", (1, 2, 5, 5), kernel_shape=[3, 3],
         pads=[1, 1, 1, 1], strides=[2, 2], count_include_pad=1)
    pool("avgpool_ceil", "ceil_mode", "AveragePool", (1, 2, 6, 6), kernel_shape=[3, 3],
         strides=[2, 2], ceil_mode=1)
    pool("avgpool_same_upper", "auto_pad", "AveragePool", (1, 2, 7, 6), kernel_shape=[2, 3],
         strides=[2, 2], auto_pad="SAME_UPPER")
    pool("global_average_pool", "", "GlobalAveragePool", (1, 3, 4, 5))
    pool("global_max_pool", "", "GlobalMaxPool", (1, 3, 4, 5))


def opset_forms():
    x = {"x": (2, 3, 4)}
    case("clip6_both", "bounds as attributes", node("Clip", "x", min=-0.5, max=0.75), x, opset=6)
    case("clip6_max", "only max", node("Clip", "x", max=0.5), x, opset=6)
    case("clip6_default", "no bounds", node("Clip", "x"), x, opset=6)
    bounds = {"low": np.array(-0.5, F), "high": np.array(0.75, F)}
    case("clip11_both", "bounds as inputs", node("Clip", "x low high"), x, bounds, opset=11)
    case("clip13_both", "bounds as inputs", node("Clip", "x low high"), x, bounds)
    case("clip13_max", "min absent by an empty name", node("Clip", "x _ high"), x,
         {"high": bounds["high"]})
    case("clip13_min", "max absent", node("Clip", "x low"), x, {"low": bounds["low"]})
    case("clip13_relu6", "bounds from Constant nodes",
         [node("Constant", "", "low", value=raw("v", F(0))),
          node("Constant", "", "high", value_float=6.0), node("Clip", "x low high")], x)
    case("relu_opset6", "", node("Relu", "x"), x, opset=6)
    case("relu_opset14", "", node("Relu", "x"), x, opset=14)

    for op in ("Softmax", "LogSoftmax"):
        low = op.lower()
        case(f"{low}11_default", "opset < 13: axis 1 by default, over all axes from it on",
             node(op, "x"), x, opset=11)
        case(f"{low}11_last", "opset < 13, last axis", node(op, "x", axis=2), x, opset=11)
        case(f"{low}11_axis0", "opset < 13, over everything", node(op, "x", axis=0), x, opset=11)
        case(f"{low}13_default", "axis -1 by default", node(op, "x"), x)
        case(f"{low}13_axis1", "over the middle axis", node(op, "x", axis=1), x)
    case("softmax7_image", "opset 7 with an image: C, H and W together", node("Softmax", "x", axis=1),
         {"x": (1, 3, 2, 2)}, opset=7)
    case("softmax13_image", "channels of an image", node("Softmax", "x", axis=1), {"x": (1, 3, 2, 2)})

    one = {"x": (1, 3, 1, 4)}
    case("squeeze11_axes", "attribute", node("Squeeze", "x", axes=[0, 2]), one, opset=11)
    case("squeeze11_negative", "attribute", node("Squeeze", "x", axes=[-2]), one, opset=11)
    case("squeeze13_axes", "input", node("Squeeze", "x axes"), one, {"axes": ints(0, -2)})
    case("squeeze13_all", "without axes: every axis of size 1", node("Squeeze", "x"), one)
    case("unsqueeze7_axes", "attribute", node("Unsqueeze", "x", axes=[0, 3]), x, opset=7)
    case("unsqueeze11_negative", "attribute", node("Unsqueeze", "x", axes=[-1, 1]), x, opset=11)
    case("unsqueeze13_axes", "input", node("Unsqueeze", "x axes"), x, {"axes": ints(0, -1)})

    for op in ("ReduceMean", "ReduceMax"):
        low = op.lower().replace("reduce", "reduce_")
        image = {"x": (1, 3, 4, 5)}
        case(f"{low}11_axes", "attribute", node(op, "x", axes=[2, 3], keepdims=1), image, opset=11)
        case(f"{low}13_flat", "attribute, negative axis, axes dropped",
             node(op, "x", axes=[1, -1], keepdims=0), image)
        case(f"{low}13_all", "without axes: over all", node(op, "x"), image)
        case(f"{low}18_axes", "input", node(op, "x axes", keepdims=0), image,
             {"axes": ints(2, -1)}, opset=18)
        case(f"{low}18_noop", "without axes and noop_with_empty_axes: nothing happens",
             node(op, "x", noop_with_empty_axes=1), image, opset=18)
    case("reduce_sum11_axes", "attribute", node("ReduceSum", "x", axes=[1]), {"x": (2, 3, 4)}, opset=11)
    case("reduce_sum13_axes", "input", node("ReduceSum", "x axes", keepdims=0), {"x": (2, 3, 4)},
         {"axes": ints(-1)})

    plane = {"x": (1, 2, 3, 4)}
    pads = [0, 0, 1, 2, 0, 1, 0, 3]
    case("pad2_constant", "attributes", node("Pad", "x", pads=pads, value=1.5), plane, opset=10)
    case("pad2_reflect", "attributes", node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="reflect"),
         plane, opset=10)
    case("pad11_constant", "inputs", node("Pad", "x pads value"), plane,
         {"pads": ints(*pads), "value": np.array(-2, F)}, opset=11)
    case("pad13_default", "value absent: 0", node("Pad", "x pads"), plane, {"pads": ints(*pads)})
    case("pad13_edge", "", node("Pad", "x pads", mode="edge"), plane, {"pads": ints(*pads)})
    case("pad13_negative", "negative pads crop", node("Pad", "x pads"), plane,
         {"pads": ints(0, 0, -1, 1, 0, 0, 1, -2)})
    case("pad18_axes", "pads of some axes", node("Pad", "x pads value axes"), plane,
         {"pads": ints(1, 2, 0, 1), "value": np.array(0.5, F), "axes": ints(-1, 2)}, opset=18)

    wide = {"x": (2, 6, 5)}
    case("slice1_axes", "attributes", node("Slice", "x", axes=[1, 2], starts=[1, -3], ends=[4, 1000]),
         wide, opset=9)
    case("slice1_default", "attributes without axes", node("Slice", "x", starts=[0, 2], ends=[1, -1]),
         wide, opset=9)
    case("slice10_steps", "inputs with steps", node("Slice", "x s e a p"), wide,
         {"s": ints(0, 4), "e": ints(6, 0), "a": ints(1, 2), "p": ints(2, -1)}, opset=10)
    case("slice13_reverse", "whole axis backwards", node("Slice", "x s e a p"), wide,
         {"s": ints(-1), "e": ints(-(2**63)), "a": ints(-2), "p": ints(-1)})
    case("slice13_default", "axes and steps absent", node("Slice", "x s e"), wide,
         {"s": ints(1, 1), "e": ints(2**63 - 1, -1)})
    case("slice13_int32", "indices of 32 bits", node("Slice", "x s e a"), wide,
         {"s": np.array([1], np.int32), "e": np.array([3], np.int32), "a": np.array([2], np.int32)})

    cube = {"x": (2, 3, 4)}
    case("reshape5_copy_infer", "0 copies, -1 is inferred", node("Reshape", "x shape"), cube,
         {"shape": ints(0, -1)}, opset=7)
    case("reshape13_infer", "", node("Reshape", "x shape"), cube, {"shape": ints(4, -1, 2)})
    case("reshape13_constant_node", "shape from a Constant's value_ints",
         [node("Constant", "", "shape", value_ints=[6, 4]), node("Reshape", "x shape")], cube)
    case("reshape14_allowzero", "allowzero = 1 without a zero", node("Reshape", "x shape", allowzero=1),
         cube, {"shape": ints(3, -1)}, opset=14)
    for axis in (0, 2, -1):
        case(f"flatten_axis{axis}".replace("-", "_"), "", node("Flatten", "x", axis=axis), cube)
    case("flatten_default", "axis 1", node("Flatten", "x"), {"x": (1, 2, 3, 4)}, opset=9)

    case("dropout7", "identity when inferring", node("Dropout", "x", ratio=0.4), x, opset=7)
    case("dropout10", "identity when inferring", node("Dropout", "x"), x, opset=10)
    case("dropout12", "ratio and training_mode as inputs",
         node("Dropout", "x ratio training"), x,
         {"ratio": np.array(0.3, F), "training": np.array(False)}, opset=12)
    case("dropout12_mask", "the mask is an output, too", node("Dropout", "x", "y mask"), x, opset=12,
         outputs="y mask", types={"mask": TensorProto.BOOL})

    for opset in (7, 9, 14, 15):
        name = f"batchnorm{opset}"
        case(name, "running statistics, epsilon 1e-3",
             node("BatchNormalization", "x s b m v", epsilon=1e-3), {"x": (2, 3, 4, 4)},
             {"s": weights(name + "s", 3), "b": weights(name + "b", 3), "m": weights(name + "m", 3),
              "v": np.abs(weights(name + "v", 3))}, opset=opset)
    name = "conv_batchnorm_relu"
    case(name, "to be folded into one",
         [node("Conv", "x w", "c", pads=[1] * 4), node("BatchNormalization", "c s b m v", "n"),
          node("Relu", "n")], {"x": (1, 2, 5, 5)},
         {"w": weights(name, 3, 2, 3, 3), "s": weights(name + "s", 3), "b": weights(name + "b", 3),
          "m": weights(name + "m", 3), "v": np.abs(weights(name + "v", 3))})
    case("batchnorm_alone", "no convolution before it, two axes",
         node("BatchNormalization", "x s b m v"), {"x": (4, 3)},
         {"s": weights(name + "s", 3), "b": weights(name + "b", 3), "m": weights(name + "m", 3),
          "v": np.abs(weights(name + "v", 3))})


def products():
    def gemm(name, note, a, b, c=None, opset=13, **attributes):
        constants = {"b": weights(name, *b)}
        if c is not None:
            constants["c"] = weights(name + "c", *c)
        case(name, note, node("Gemm", "a b" if c is None else "a b c", **attributes), {"a": a},
             constants, opset=opset)

    gemm("gemm_default", "", (2, 3), (3, 4), (4,))
    gemm("gemm_all", "alpha, beta, both transposed", (3, 2), (4, 3), (2, 4), alpha=0.5, beta=-1.5,
         transA=1, transB=1)
    gemm("gemm_trans_b", "the usual linear layer", (1, 5), (4, 5), (4,), transB=1)
    gemm("gemm_scalar", "C is a scalar", (2, 3), (3, 4), ())
    gemm("gemm_column", "C of one column", (2, 3), (3, 4), (2, 1))
    gemm("gemm_no_c", "without C, from opset 11", (2, 3), (3, 4), opset=11, alpha=2.0)
    gemm("gemm_opset7", "", (2, 3), (3, 4), (1, 4), opset=7)
    gemm("gemm_opset9_beta0", "beta 0", (2, 3), (3, 4), (4,), opset=9, beta=0.0)
    case("gemm_two_inputs", "no constant at all", node("Gemm", "a b c", transB=1),
         {"a": (2, 3), "b": (4, 3), "c": (4,)})
    case("matmul_weight", "", node("MatMul", "a w"), {"a": (2, 3)}, {"w": weights("mm", 3, 4)})
    case("matmul_add", "bias by Add: one fully connected layer",
         [node("MatMul", "a w", "m"), node("Add", "m b")], {"a": (2, 3)},
         {"w": weights("mma", 3, 4), "b": weights("mmab", 4)})
    case("matmul_add_left", "bias is Add's first operand",
         [node("MatMul", "a w", "m"), node("Add", "b m")], {"a": (2, 5, 3)},
         {"w": weights("mml", 3, 4), "b": weights("mmlb", 4)})
    case("matmul_batched", "batch axes broadcast", node("MatMul", "a b"),
         {"a": (2, 1, 3, 4), "b": (5, 4, 2)})
    case("matmul_vector", "one axis on the right", node("MatMul", "a b"), {"a": (2, 3, 4), "b": (4,)})


def elementwise():
    image = {"x": (2, 3, 4, 5)}
    channel = weights("channel", 1, 3, 1, 1)
    for op in ("Add", "Sub", "Mul", "Div"):
        low = op.lower()
        case(f"{low}_channel", "a constant a channel", node(op, "x c"), image, {"c": channel}, opset=14)
        case(f"{low}_left", "the constant on the left", node(op, "c x"), image,
             {"c": weights("row", 5)}, opset=7)
        case(f"{low}_mutual", "both operands grow", node(op, "a b"), {"a": (3, 1, 5), "b": (2, 1, 4, 1)})
    case("add_scalar", "", node("Add", "x c"), image, {"c": np.array(2.5, F)})
    case("add_same", "the same tensor twice", node("Add", "x x"), image)
    case("mul_rank1_scalar", "one element, one axis", node("Mul", "x c"), image, {"c": np.array([3], F)})
    for op in ("Exp", "Sigmoid", "Tanh", "Neg", "Abs"):
        case(op.lower(), "", node(op, "x"), {"x": (2, 3)})
    case("sqrt", "", node("Sqrt", "x"), {"x": np.abs(weights("sqrt", 2, 3))})
    case("identity", "", node("Identity", "x"), {"x": (2, 3)})


def moving():
    x = {"x": (2, 3, 4)}
    case("transpose_default", "reversed axes", node("Transpose", "x"), x)
    case("transpose_perm", "", node("Transpose", "x", perm=[1, 0, 2]), x)
    case("transpose_pair", "two that cancel, a convolution between",
         [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"),
          node("Transpose", "c", perm=[0, 2, 3, 1])], {"x": (1, 5, 5, 3)},
         {"w": weights("tp", 4, 3, 3, 3)})
    case("concat", "a constant among the inputs", node("Concat", "x c x", axis=-2), x,
         {"c": weights("concat", 2, 1, 4)})
    case("concat_channels", "two convolutions meet",
         [node("Conv", "x w1", "a"), node("Conv", "x w2", "b"), node("Concat", "a b", axis=1)],
         {"x": (1, 2, 4, 4)}, {"w1": weights("cc1", 3, 2, 3, 3), "w2": weights("cc2", 2, 2, 3, 3)})
    case("gather", "negative index, axis 1", node("Gather", "x i", axis=1), x,
         {"i": np.array([[0, -1], [2, 0]], np.int64)})
    case("gather_scalar", "the axis goes", node("Gather", "x i"), x, {"i": np.array(1, np.int64)})
    case("cast_roundtrip", "float to int32 and back: towards zero",
         [node("Cast", "x", "i", to=TensorProto.INT32), node("Cast", "i", to=TensorProto.FLOAT)],
         {"x": 3 * weights("cast", 2, 3)})
    shape_of = [
        node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n", "n1", axes=[0]),
        node("Concat", "n1 rest", "target", axis=0), node("Reshape", "x target")]
    case("shape_folding", "the target of Reshape is computed from Shape", shape_of, {"x": (2, 3, 2, 2)},
         {"zero": np.array(0, np.int64), "rest": ints(-1)}, opset=11)
    case("shape15_slice", "Shape with start and end",
         [node("Shape", "x", "s", start=1, end=-1), node("Concat", "s rest", "target", axis=0),
          node("Reshape", "x target")], {"x": (2, 3, 4)}, {"rest": ints(-1)}, opset=15)
    case("constant_of_shape", "",
         [node("ConstantOfShape", "s", "c", value=raw("v", np.array([1.5], F))), node("Add", "x c")],
         {"x": (3,)}, {"s": ints(2, 3)}, opset=9)


def coding():
    """QuantizeLinear and DequantizeLinear, and operators on codes."""
    x = {"x": (2, 3, 4)}
    scale, third = np.array(0.02, F), np.array([0.02, 0.03, 0.01], F)

    def pair(name, note, zero, scale=scale, opset=13, out="y", **attributes):
        constants = {"s": scale}
        if zero is not None:
            constants["z"] = zero
        names = "s z" if zero is not None else "s"
        back = {k: v for k, v in attributes.items() if k not in ("saturate", "output_dtype")}
        case(f"quantize_{name}", note, node("QuantizeLinear", f"x {names}", **attributes), x, constants,
             opset=opset, types={"y": helper.np_dtype_to_tensor_dtype(zero.dtype) if zero is not None
                                 else attributes.get("output_dtype", TensorProto.UINT8)})
        case(f"fake_quantize_{name}", note + ", and back, between operators",
             [node("Exp", "x", "e"), node("QuantizeLinear", f"e {names}", "q", **attributes),
              node("DequantizeLinear", f"q {names}", "d", **back), node("Neg", "d")], x, constants, opset=opset)

    pair("u8_opset10", "uint8, first form", np.array(100, np.uint8), opset=10)
    pair("s8_opset13", "int8", np.array(-7, np.int8))
    pair("u8_default", "zero point absent: uint8", None)
    pair("s8_axis", "a grid for each index of axis 1", np.array([0, 1, -2], np.int8), third, axis=1)
    pair("s8_axis_negative", "axis from the end", np.zeros(3, np.int8), third, axis=-2, opset=19, saturate=1)
    pair("u16_opset21", "uint16", np.array(30000, np.uint16), np.array(1e-3, F), opset=21)
    pair("s16_opset21", "int16", np.array(0, np.int16), np.array(1e-3, F), opset=21)
    pair("dtype_opset21", "int8 by output_dtype", None, opset=21, output_dtype=TensorProto.INT8)

    codes = seeded("codes").integers(0, 256, (4, 3, 3, 3), np.uint8)
    signed = (codes.astype(np.int16) - 128).astype(np.int8)
    image = {"x": (1, 3, 5, 5)}
    four = np.array([0.01, 0.02, 0.03, 0.04], F)
    case("dequantize_input", "codes are an input of the model",
         [node("DequantizeLinear", "c s z", "f"), node("Relu", "f")], {"c": codes},
         {"s": scale, "z": np.array(128, np.uint8)})
    case("dequantize_weight", "weights in uint8, one grid",
         [node("DequantizeLinear", "w s z", "f"), node("Conv", "x f")], image,
         {"w": codes, "s": scale, "z": np.array(128, np.uint8)})
    case("dequantize_weight_axis", "weights in int8, a grid for each filter, int32 bias",
         [node("DequantizeLinear", "w s z", "f", axis=0), node("DequantizeLinear", "b t", "g", axis=0),
          node("Conv", "x f g")], image,
         {"w": signed, "s": four, "z": np.zeros(4, np.int8), "b": np.array([5, -7, 100000, 0], np.int32),
          "t": four * F(0.5)})
    case("dequantize_weight_moved", "codes transposed, then values reshaped and transposed",
         [node("Transpose", "w", "t", perm=[1, 2, 3, 0]), node("DequantizeLinear", "t s z", "f", axis=3),
          node("Reshape", "f shape", "g"), node("Transpose", "g", "h", perm=[1, 0]),
          node("Reshape", "h whole", "k"), node("Conv", "x k")], image,
         {"w": signed, "s": four, "z": np.zeros(4, np.int8), "shape": ints(27, 4), "whole": ints(4, 3, 3, 3)})
    case("fake_quantized_weight", "float weights through QuantizeLinear and DequantizeLinear",
         [node("QuantizeLinear", "w s z", "q", axis=0), node("DequantizeLinear", "q s z", "f", axis=0),
          node("Conv", "x f")], image,
         {"w": weights("fake", 4, 3, 3, 3) / 8, "s": four / 8, "z": np.zeros(4, np.int8)})
    case("fake_quantized_torch", "as PyTorch writes it: Constant nodes, Identity, Cast of the zero point",
         [node("Constant", "", "s0", value=raw("v", four / 8)), node("Identity", "s0", "s"),
          node("Constant", "", "z0", value=raw("v", np.zeros(4, np.int32))),
          node("Cast", "z0", "z", to=TensorProto.INT8),
          node("QuantizeLinear", "w s z", "q", axis=0), node("DequantizeLinear", "q s z", "f", axis=0),
          node("Conv", "x f")], image, {"w": weights("fake", 4, 3, 3, 3) / 8})
    case("dequantize_shared", "codes used twice, float weights by two grids",
         [node("DequantizeLinear", "w s z", "f"), node("Conv", "x f", "a"), node("Conv", "x f", "b"),
          node("QuantizeLinear", "v s", "q"), node("DequantizeLinear", "q s", "g"), node("Conv", "x g", "c"),
          node("QuantizeLinear", "v t", "p"), node("DequantizeLinear", "p t", "h"), node("Conv", "x h", "d"),
          node("Sum", "a b c d")], image,
         {"w": codes, "s": scale, "t": np.array(0.03, F), "z": np.array(128, np.uint8),
          "v": np.abs(weights("shared", 4, 3, 3, 3))})
    case("dequantize_s4", "weights in int4",
         [node("DequantizeLinear", "w s", "f", axis=0), node("Conv", "x f")], image,
         {"w": helper.make_tensor("w", TensorProto.INT4, codes.shape, (codes % 16).astype(int).flatten() - 8),
          "s": four}, opset=21)
    case("dequantize_blocks", "a scale for each block of 9 rows",
         [node("DequantizeLinear", "w s z", "f", axis=0, block_size=9), node("MatMul", "x f")], {"x": (2, 27)},
         {"w": codes.reshape(27, 4), "s": np.array([[1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]], F) / 64,
          "z": np.full((3, 4), 120, np.uint8)}, opset=21)
    case("dequantize_blocks_gemm", "a scale for each block of 16 columns of 27 in int4, the last block shorter",
         [node("DequantizeLinear", "w s", "f", axis=1, block_size=16), node("Gemm", "x f b", transB=1)],
         {"x": (2, 27)},
         {"w": helper.make_tensor("w", TensorProto.INT4, (4, 27), (codes % 16).astype(int).flatten() - 8),
          "s": np.array([[1, 2], [3, 4], [5, 6], [7, 8]], F) / 64, "b": np.array([1, 2, 3, 4], F)}, opset=21)
    case("dequantize_blocks_conv", "a scale for each block of 2 input channels of 3, the same in the whole window",
         [node("DequantizeLinear", "w s", "f", axis=1, block_size=2), node("Conv", "x f")], image,
         {"w": signed, "s": np.repeat(np.array([[1, 2], [3, 4], [5, 6], [7, 8]], F) / 64, 9).reshape(4, 2, 3, 3)},
         opset=21)
    case("dequantize_float16", "scales in float16, result cast",
         [node("DequantizeLinear", "w s", "f", axis=0), node("Cast", "f", "g", to=TensorProto.FLOAT),
          node("Conv", "x g")], image, {"w": signed, "s": np.array([0.5, 0.25, 0.125, 1], np.float16)}, opset=19)
    case("quantize_dynamic_scale", "a scale that is computed",
         [node("Abs", "t", "s"), node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s")],
         {"x": (2, 3), "t": np.array([-0.02], F)})
    case("codes_moved", "codes go through pooling, padding, transposition and reshaping",
         [node("QuantizeLinear", "x s z", "q"), node("MaxPool", "q", "m", kernel_shape=[2, 2]),
          node("Transpose", "m", "t", perm=[0, 2, 3, 1]), node("Reshape", "t shape", "r"),
          node("DequantizeLinear", "r s z")], image,
         {"s": scale, "z": np.array(100, np.uint8), "shape": ints(4, 12)})
    case("codes_in_codes_out", "codes at both ends",
         [node("DequantizeLinear", "x s z", "f"), node("Conv", "f w", "g"), node("Relu", "g", "h"),
          node("QuantizeLinear", "h s z")], {"x": codes[:1]},
         {"w": weights("between", 2, 3, 3, 3), "s": scale, "z": np.array(128, np.uint8)},
         types={"y": TensorProto.UINT8})
    point = np.array(0, np.int8)
    scales = {"xs": scale, "xz": np.array(128, np.uint8), "ws": four, "wz": np.zeros(4, np.int8),
              "ys": np.array(0.2, F), "yz": np.array(100, np.uint8)}
    case("qlinear_conv", "int32 bias, a grid for each filter",
         [node("QuantizeLinear", "x xs xz", "q"), node("QLinearConv", "q xs xz w ws wz ys yz b", "p"),
          node("DequantizeLinear", "p ys yz")], image,
         {**scales, "w": signed, "b": np.array([100, -200, 300, 0], np.int32)}, opset=10)
    case("qlinear_matmul", "codes in and out", node("QLinearMatMul", "x xs xz w ws wz ys yz"),
         {"x": codes.reshape(4, 27)},
         {**scales, "w": codes.reshape(27, 4), "ws": scale, "wz": np.array(120, np.uint8)}, opset=10,
         types={"y": TensorProto.UINT8})
    case("conv_integer", "zero points given", node("ConvInteger", "x w xz wz"), {"x": codes[:1]},
         {"w": codes, "xz": np.array(128, np.uint8), "wz": np.array(120, np.uint8)}, opset=10,
         types={"y": TensorProto.INT32})
    case("matmul_integer", "zero point of the weights only", node("MatMulInteger", "x w _ wz"),
         {"x": codes.reshape(4, 27)}, {"w": signed.reshape(27, 4), "wz": point}, opset=10,
         types={"y": TensorProto.INT32})
    case("dynamic_quantize", "scale and zero point of the data",
         [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z")], {"x": (3, 5)}, opset=11)


def storage():
    w = weights("storage", 3, 2, 3, 3)
    b = weights("storage/b", 3)
    x = {"x": (1, 2, 5, 5)}
    conv = [node("Conv", "x w b")]
    case("weights_float_data", "weights in float_data", conv, x, {"w": typed("w", w), "b": typed("b", b)})
    case("weights_raw", "weights in raw_data", conv, x, {"w": w, "b": b})
    case("weights_mixed", "one of each", conv, x, {"w": w, "b": typed("b", b)})
    case("int64_data", "shape in int64_data", node("Reshape", "x shape"), {"x": (2, 6)},
         {"shape": typed("shape", ints(3, -1))})
    half = np.array([0.5, -1.25, 65504, 6e-8, -0.0, 1 / 3], np.float16)
    for kind, values in {
        "float16": half,
        "int8": np.array([-128, -1, 0, 1, 2, 127], np.int8),
        "uint8": np.array([0, 1, 2, 127, 128, 255], np.uint8),
        "int16": np.array([-32768, -1, 0, 1, 2, 32767], np.int16),
        "uint16": np.array([0, 1, 2, 3, 32768, 65535], np.uint16),
        "int32": np.array([-(2**31), -1, 0, 1, 2, 2**24], np.int32),
        "bool": np.array([True, False, True, True, False, False]),
        "double": np.array([1e-3, -1, 0.1, 1, 2, 1 / 3], np.float64),
        "uint32": np.array([0, 1, 2, 3, 2**31, 2**32 - 1], np.uint32),
        "uint64": np.array([0, 1, 2, 3, 2**40, 2**63], np.uint64),
        "int64": np.array([-(2**40), 1, 2, 3, 2**40, -(2**63)], np.int64),
    }.items():
        # float16 in int32_data is by bit pattern: make_tensor sees to it.
        for form, make in (("typed", typed), ("raw", raw)):
            case(f"cast_{kind}_{form}", f"{kind} initializer, {form} storage",
                 [node("Cast", "c", "f", to=TensorProto.FLOAT), node("Mul", "x f")], {"x": (2, 6)},
                 {"c": make("c", values)})
    case("initializers_as_inputs", "IR version 3: every initializer is a graph input", conv, x,
         {"w": w, "b": b}, opset=8)
    case("initializer_default", "IR version 4: an initializer is an input's default", conv, x,
         {"w": w, "b": b}, opset=9, listed=("b",))
    case("external_data", "weights in a file beside the model, with offset and length", conv, x,
         {"w": w, "b": b}, external={"pad": 5})
    case("external_whole_file", "neither offset nor length: the whole file", node("Conv", "x w"), x,
         {"w": w}, external={"offsets": False})
    case("external_subfolder", "file in a folder below the model's", conv, x, {"w": w, "b": b},
         external={"location": "data/weights.bin"})
    case("dynamic_batch", "symbolic batch", conv, {"x": (2, 2, 5, 5)}, {"w": w, "b": b},
         shapes={"x": ["N", 2, 5, 5]})
    case("unused_input", "an input that nothing reads", node("Relu", "x"), {"x": (2, 3), "z": (4,)})
    case("two_outputs", "one output feeds the other",
         [node("Relu", "x", "a"), node("Exp", "a", "b")], {"x": (2, 3)}, outputs="b a")
    case("constant_output", "an output that depends on no input",
         [node("Relu", "x", "y"), node("Add", "c c", "k")], {"x": (2, 3)},
         {"c": np.array([1.5, 2], F)}, outputs="y k")
    case("dead_nodes", "nodes without use",
         [node("Exp", "x", "unused"), node("Relu", "x")], {"x": (2, 3)})
    case("names_with_slashes", "names as exporters write them",
         [node("Relu", "/in:0", "/block/relu:0"), node("Exp", "/block/relu:0", "/out:0")],
         {"/in:0": (2, 3)}, outputs="/out:0")
    function = helper.make_function(
        "local", "ScaledRelu", ["a"], ["r"],
        [node("Constant", "", "k"), node("Mul", "a k", "m"), node("Relu", "m", "r")],
        [helper.make_opsetid("", 15)], ["factor"])
    factor = helper.make_attribute_ref("value_float", onnx.AttributeProto.FLOAT)
    factor.ref_attr_name = "factor"
    function.node[0].attribute.append(factor)
    case("local_function", "a function of the model, called twice with different attributes",
         [node("ScaledRelu", "x", "h", domain="local", factor=2.0),
          node("ScaledRelu", "h", "y", domain="local", factor=-0.5)], {"x": (2, 3)}, opset=15,
         functions=[function])


def faults():
    x = {"x": (1, 2, 4, 4)}
    w = {"w": weights("fault", 2, 2, 3, 3)}

    def external(location, offset=None, length=None):
        def change(model):
            tensor = model.graph.initializer[0]
            onnx.external_data_helper.set_external_data(tensor, location, offset=offset, length=length)
            tensor.ClearField("raw_data")
        return change

    conv = [node("Conv", "x w")]
    fault("cycle", "two nodes read each other's output",
          [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Exp", "b")], x)
    fault("unordered", "legal graph but for the order of its nodes",
          [node("Exp", "a"), node("Relu", "x", "a")], x)
    fault("unknown_operators", "three operators that do not exist, one in a domain of its own",
          [node("Frobnicate", "x", "a"), node("Relu", "a", "b"), node("Twiddle", "b", "c"),
           node("Spin", "c", domain="example.custom")], x)
    fault("undefined_tensor", "a node reads a tensor that nothing makes", [node("Add", "x nowhere")], x)
    fault("two_producers", "two nodes make the same tensor", [node("Relu", "x"), node("Exp", "x")], x)
    fault("missing_output", "a graph output that nothing makes", [node("Relu", "x", "a")], x)
    fault("external_missing", "the data file is not there", conv, x, w, change=external("no-such.bin"))
    fault("external_parent", "the data file is outside the model's folder", conv, x, w,
          change=external("../../external_data/weights.bin", 5, 144))
    fault("external_absolute", "the data file is given by an absolute path", conv, x, w,
          change=external("/dev/zero", 0, 144))
    fault("external_beyond_end", "offset and length reach behind the file's end", conv, x, w,
          change=external("model.onnx", 10, 1 << 40))
    fault("external_negative", "negative offset", conv, x, w, change=external("model.onnx", -8, 144))
    def shorten(model):
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    fault("short_raw_data", "fewer bytes than the dimensions say", conv, x, w, change=shorten)
    def huge(model):
        model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40, 3, 3]
    fault("huge_dims", "dimensions whose product overflows 64 bits", conv, x, w, change=huge)
    def negative(model):
        model.graph.initializer[0].dims[:] = [-2, -2, 3, 3]
    fault("negative_dims", "negative dimensions", conv, x, w, change=negative)
    def strange(model):
        model.graph.initializer[0].data_type = 99
    fault("unknown_data_type", "a data type that does not exist", conv, x, w, change=strange)
    def newer(model):
        model.opset_import[0].version = 999
    fault("future_opset", "opset 999", conv, x, w, change=newer)
    fault("channel_mismatch", "weight for other channels than the input has", conv, {"x": (1, 5, 4, 4)}, w)
    fault("bad_attribute", "a stride of zero", [node("Conv", "x w", strides=[0, 1])], x, w)
    whole = {"s": np.array(0.02, F), "z": np.array(128, np.uint8)}
    lists = {"s": np.array([0.02, 0.03], F), "z": np.array([0, 1], np.int8)}
    def coded(name, note, constants, **attributes):
        fault(name, note, [node("QuantizeLinear", "x s z", "q", **attributes),
                           node("DequantizeLinear", "q s z", **attributes)], x, constants, opset=21)
    coded("grid_zero_scale", "a scale of 0", {**whole, "s": np.array(0, F)})
    coded("grid_negative_scale", "a negative scale", {**whole, "s": np.array(-0.5, F)})
    coded("grid_nan_scale", "a scale that is no number", {**whole, "s": np.array(np.nan, F)})
    coded("grid_axis", "an axis outside the shape", lists, axis=4)
    coded("grid_count", "two scales for four rows", lists, axis=2)
    coded("grid_zero_count", "one zero point for two scales", {**lists, "z": np.array([0], np.int8)}, axis=1)
    coded("grid_matrix", "scales in two dimensions without blocks", {"s": np.ones((2, 2), F), "z": np.zeros((2, 2), np.int8)})
    coded("grid_block", "a block size that does not divide into the scales",
          {"s": np.ones((1, 2, 3, 4), F), "z": np.zeros((1, 2, 3, 4), np.int8)}, axis=2, block_size=3)
    coded("grid_block_negative", "a negative block size", whole, axis=2, block_size=-1)
    coded("grid_integer_scale", "a scale of integers", {**whole, "s": np.array(2, np.int32)})
    coded("grid_float_zero", "a zero point of floats", {**whole, "z": np.array(2, F)})
    fault("grid_types", "codes and zero point of different types",
          [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s k")], x,
          {**whole, "k": np.array(0, np.int8)})
    def branch(name):
        graph = helper.make_graph([node("Relu", "x", "r")], name, [], [
            helper.make_tensor_value_info("r", TensorProto.FLOAT, None)])
        return graph
    fault("if_computed", "a condition that depends on the input",
          [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"),
           node("If", "c", then_branch=branch("a"), else_branch=branch("b"))], x, {"zero": np.array(0, F)})
    body = helper.make_graph(
        [node("Identity", "keep", "again"), node("Relu", "before", "after")], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
         helper.make_tensor_value_info("before", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []),
         helper.make_tensor_value_info("after", TensorProto.FLOAT, None)])
    fault("loop", "a loop", [node("Loop", "n yes x", body=body)], x, {"n": ints(3)[0], "yes": np.array(True)})
    fault("no_broadcast", "shapes that do not broadcast", [node("Add", "x w")], x, w)
    def hollow(model):
        model.ClearField("graph")
    fault("no_graph", "a model without a graph", conv, x, w, change=hollow)
    def deep(model):
        inner = onnx.TypeProto()
        inner.tensor_type.elem_type = TensorProto.FLOAT
        for _ in range(40):
            outer = onnx.TypeProto()
            outer.sequence_type.elem_type.CopyFrom(inner)
            inner = outer
        model.graph.input[0].type.CopyFrom(inner)
    fault("deep_type", "an input of sequences of sequences, 40 deep", conv, x, w, change=deep)


def recurrences():
    def layer(name, note, kind, gates, steps, batch, inner, hidden, directions=1, more=(), outputs="y", opset=14,
              **attributes):
        rows = gates * hidden
        constants = {"w": weights(name + "w", directions, rows, inner) * F(0.5),
                     "r": weights(name + "r", directions, rows, hidden) * F(0.5)}
        operands = ["x", "w", "r"]
        shapes = {"b": (directions, 2 * rows), "n": None, "h": (directions, batch, hidden),
                  "c": (directions, batch, hidden), "p": (directions, 3 * hidden)}
        for key in ("b", "n", "h", "c", "p")[: 5 if kind == "LSTM" else 3]:
            operands.append(f"{key}0" if key in more else "_")
            if key in more:
                constants[operands[-1]] = (np.array([steps - i for i in range(batch)], np.int32) if key == "n"
                                  else weights(name + key, *shapes[key]) * F(0.5))
        case(name, note, node(kind, " ".join(operands), outputs, hidden_size=hidden, **attributes),
             {"x": (steps, batch, inner)}, constants, opset=opset, outputs=outputs)

    layer("lstm_plain", "no bias, all three outputs", "LSTM", 4, 4, 1, 3, 5, outputs="y h c")
    layer("lstm_all", "both directions, bias, lengths, first states, peepholes", "LSTM", 4, 5, 3, 4, 3, 2, "bnhcp",
          "y h c", direction="bidirectional")
    layer("lstm_clip", "clip, reverse, other functions with parameters", "LSTM", 4, 4, 2, 3, 4, 1, "b", clip=0.5,
          direction="reverse", activations=["HardSigmoid", "ScaledTanh", "Elu"],
          activation_alpha=[0.3, 0.9, 0.7], activation_beta=[0.4, 1.2])
    layer("gru_plain", "opset 7", "GRU", 3, 4, 1, 3, 5, opset=7, outputs="y h")
    layer("gru_all", "both directions, lengths, first state, reset behind the product", "GRU", 3, 5, 3, 4, 3, 2,
          "bnh", "y h", direction="bidirectional", linear_before_reset=1)
    layer("rnn_all", "both directions, bias, Relu and Tanh", "RNN", 1, 4, 2, 3, 4, 2, "bh", "y h",
          direction="bidirectional", activations=["Relu", "Tanh"])


def resizings():
    def resize(name, note, x, opset=13, sizes=None, scales=None, **attributes):
        constants = {"r": np.array([], F)} if opset == 11 else {}
        if opset == 10:
            case(name, note, node("Resize", "x s", **attributes), {"x": x},
                 {"s": np.array(scales, F)}, opset=opset)
            return
        if sizes is not None:
            constants["n"] = ints(*sizes)
            if opset == 11:
                constants["s"] = np.array([], F)
        else:
            constants["s"] = np.array(scales, F)
        operands = f"x {'r' if opset == 11 else '_'} {'s' if 's' in constants else '_'}"
        case(name, note, node("Resize", operands + (" n" if sizes is not None else ""), **attributes),
             {"x": x}, constants, opset=opset)

    resize("resize10_nearest", "opset 10, nearest", (1, 2, 3, 4), 10, scales=[1, 1, 2, 3], mode="nearest")
    resize("resize10_linear", "opset 10, linear", (1, 2, 3, 4), 10, scales=[1, 1, 2, 1.5], mode="linear")
    resize("resize11_torch", "opset 11, what PyTorch exports for bilinear", (1, 2, 4, 5), 11, sizes=[1, 2, 8, 10],
           mode="linear", coordinate_transformation_mode="pytorch_half_pixel", nearest_mode="floor")
    resize("resize11_nn", "opset 11, tf_half_pixel_for_nn", (1, 2, 6, 4), 11, scales=[1, 1, 0.5, 2],
           mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor")
    resize("resize13_corners", "corners aligned", (1, 2, 4, 5), sizes=[1, 2, 7, 9], mode="linear",
           coordinate_transformation_mode="align_corners")
    resize("resize13_nearest", "nearest as in feature pyramids", (1, 3, 3, 4), scales=[1, 1, 2, 2], mode="nearest",
           coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    resize("resize13_down", "half the size, ties", (1, 2, 6, 8), scales=[1, 1, 0.5, 0.5], mode="nearest")
    resize("resize13_cubic", "cubic", (1, 2, 5, 6), scales=[1, 1, 1.6, 0.7], mode="cubic",
           coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.5)
    resize("resize13_line", "one spatial axis", (1, 2, 5), scales=[1, 1, 2], mode="linear")
    case("upsample7", "scales as attribute", node("Upsample", "x", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]),
         {"x": (1, 2, 3, 4)}, opset=7)
    case("upsample9", "scales as operand, linear", node("Upsample", "x s", mode="linear"), {"x": (1, 2, 3, 4)},
         {"s": np.array([1, 1, 2, 2], F)}, opset=9)


def volumes():
    case("conv_3d", "three spatial axes", node("Conv", "x w b", pads=[1, 0, 1, 0, 1, 1], strides=[1, 2, 1]),
         {"x": (1, 3, 4, 5, 6)}, {"w": weights("c3", 4, 3, 3, 2, 3), "b": weights("c3b", 4)})
    case("conv_transpose_3d", "three spatial axes, groups", node("ConvTranspose", "x w", group=2, strides=[2, 1, 2]),
         {"x": (1, 4, 3, 3, 2)}, {"w": weights("ct3", 4, 2, 2, 3, 2)})
    case("conv_transpose_shape", "output_shape", node("ConvTranspose", "x w", strides=[2, 2], output_shape=[9, 8]),
         {"x": (1, 3, 4, 4)}, {"w": weights("cts", 3, 2, 3, 3)})
    case("maxpool_indices", "where the maxima are", node("MaxPool", "x", "y i", kernel_shape=[2, 3], strides=[2, 1],
         pads=[1, 1, 0, 1]), {"x": (2, 3, 5, 6)}, outputs="y i", types={"i": TensorProto.INT64})
    case("avgpool_3d", "ceil_mode over volumes", node("AveragePool", "x", kernel_shape=[2, 3, 2], strides=[2, 2, 2],
         ceil_mode=1), {"x": (1, 2, 5, 6, 5)})
    case("lppool", "sums of cubes", node("LpPool", "x", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 1, 1, 0], p=3),
         {"x": (1, 2, 5, 5)}, opset=11)
    case("shuffle", "channel shuffle between convolutions",
         [node("Conv", "x w", "a"), node("Reshape", "a s", "b"), node("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]),
          node("Reshape", "c t", "d"), node("Conv", "d v")], {"x": (1, 3, 5, 5)},
         {"w": weights("sw", 6, 3, 3, 3), "v": weights("sv", 2, 6, 1, 1), "s": ints(1, 2, 3, 3, 3),
          "t": ints(1, 6, 3, 3)})
    case("depth_to_space", "sub-pixel convolution", [node("Conv", "x w", "a"),
         node("DepthToSpace", "a", blocksize=2, mode="CRD")], {"x": (1, 3, 4, 5)}, {"w": weights("dts", 8, 3, 3, 3)})


def branches():
    def body(name, *nodes, output="r"):
        return helper.make_graph(
            list(nodes), name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])

    both = {"then_branch": body("then", node("Add", "a two", "r")),
            "else_branch": body("else", node("Mul", "a two", "t"), node("Relu", "t", "r"))}
    two = {"two": np.array(2, F)}
    case("if_constant", "a constant condition; both branches read from outside",
         [node("Exp", "x", "a"), node("If", "no", **both)], {"x": (2, 3)}, {**two, "no": np.array(False)})
    case("if_shape", "what PyTorch exports for squeeze: the condition is computed from a shape",
         [node("Relu", "x", "a"), node("Shape", "a", "s"), node("Gather", "s one", "d"),
          node("Equal", "d one", "yes"), node("If", "yes", **both)], {"x": (2, 1)}, {**two, "one": ints(1)[0]})
    inner = {"then_branch": body("inner_then", node("If", "no", **both)),
             "else_branch": body("inner_else", node("Neg", "a", "q"), output="q")}
    inner["then_branch"].output[0].name = "u"
    inner["then_branch"].node[0].output[0] = "u"
    case("if_nested", "a branch in a branch",
         [node("Exp", "x", "a"), node("If", "yes", **inner)], {"x": (2, 3)},
         {**two, "yes": np.array(True), "no": np.array(False)})


def borders():
    half, wide = TensorProto.FLOAT16, TensorProto.DOUBLE
    case("float16_border", "a network of float16",
         [node("Add", "x b", "a"), node("Relu", "a")], {"x": seeded("f16").standard_normal((2, 3)).astype(np.float16)},
         {"b": np.array([0.5, -0.25, 2], np.float16)}, types={"y": half})
    case("float64_border", "a network of float64: arithmetic stays, functions are float32",
         [node("Mul", "x b", "a"), node("Exp", "a")], {"x": seeded("f64").standard_normal((2, 3))},
         {"b": np.array([0.5, -0.25, 1])}, types={"y": wide})
    case("cast_half", "rounded to float16 on the way", [node("Cast", "x", "h", to=half),
         node("Cast", "h", to=TensorProto.FLOAT)], {"x": (3, 5)})


def main():
    for entry in FOLDER.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    for group in (convolutions, pools, opset_forms, products, elementwise, moving, coding, storage,
                  recurrences, resizings, volumes, branches, borders, faults):
        group()
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names)
    text = ",\n".join("    " + json.dumps(c) for c in cases)
    faulty = ",\n".join("    " + json.dumps(c) for c in broken)
    (FOLDER / "cases.json").write_text(
        f'{{\n  "version": 1,\n  "cases": [\n{text}\n  ],\n  "broken": [\n{faulty}\n  ]\n}}\n')
    size = sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file())
    print(f"{len(cases)} cases, {len(broken)} broken models, {size} bytes")


if __name__ == "__main__":
    main()
