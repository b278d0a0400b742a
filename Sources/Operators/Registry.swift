import IR

extension OperatorRegistry {
  /// Every operator of the project. To add one: its file, and its type in this list.
  public static let standard = OperatorRegistry([
    Conv2d.self, DepthWiseConv2d.self, TransposeConv2d.self, FullyConnected.self, MatMul.self,
    Batchnorm.self,
    PoolMax2d.self, PoolAvg2d.self,
    Relu.self, ReluMinMax.self, LeakyRelu.self, Prelu.self, HardSwish.self, Elu.self,
    HardSigmoid.self, Softmax.self, LogSoftmax.self,
    ElementWiseExp.self, ElementWiseLog.self, ElementWiseNeg.self, ElementWiseAbs.self,
    ElementWiseSquareRoot.self, ElementWiseRsqrt.self, ElementWiseReciprocal.self,
    ElementWiseFloor.self, ElementWiseCeil.self, ElementWiseRound.self, ElementWiseSin.self,
    ElementWiseCos.self, Sigmoid.self, Tanh.self,
    ElementWiseAdd.self, ElementWiseSubtract.self, ElementWiseMultiply.self,
    ElementWiseDivide.self, ElementWiseMaximum.self, ElementWiseMinimum.self,
    ElementWisePower.self, ElementWiseMod.self, ElementWiseFmod.self,
    ReduceMean.self, ReduceSum.self, ReduceMax.self, ReduceMin.self, ReduceProd.self,
    CumulativeSum.self, Argmax.self, Argmin.self, TopK.self, OneHot.self,
    Reshape.self, Transpose.self, Expand.self, Tile.self, Concat.self, Split.self,
    StridedSlice.self, Gather.self, GatherElements.self, GatherNd.self, ScatterElements.self,
    ScatterNd.self, Pad.self,
    LayerNorm.self, RmsNorm.self, InstanceNorm.self, GroupNorm.self, Lrn.self,
    Gelu.self, Selu.self, Celu.self, ThresholdedRelu.self, Swish.self, Shrink.self, Mish.self,
    ElementWiseErf.self, ElementWiseSign.self, ElementWiseTan.self, ElementWiseAsin.self,
    ElementWiseAcos.self, ElementWiseAtan.self, ElementWiseSinh.self, ElementWiseCosh.self,
    ElementWiseAsinh.self, ElementWiseAcosh.self, ElementWiseAtanh.self,
    ElementWiseSoftplus.self, ElementWiseSoftsign.self,
    ElementWiseEqual.self, ElementWiseLess.self, ElementWiseLessEqual.self,
    ElementWiseGreater.self, ElementWiseGreaterEqual.self, ElementWiseAnd.self,
    ElementWiseOr.self, ElementWiseXor.self, ElementWiseNot.self, ElementWiseSelect.self,
    ElementWiseIsNaN.self,
    Cast.self, Convert.self, Quantize.self, Dequantize.self,
    QuantizeLinear.self, DequantizeLinear.self,
  ])
}
