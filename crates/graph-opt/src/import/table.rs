//! Which lowering each primitive has.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::call::Call;
use super::item::Item;
use super::ops::{
    attention, collective, compare, conv, create, diagonal, elementwise, index, linear, norm, pool, reduce,
    resize, scalar, shape, slice, state,
};
use crate::Result;
use crate::ir::ValueId;
use crate::ir::op::{Binary, ReduceKind, Unary};

/// How a primitive becomes nodes.
#[derive(Clone, Copy)]
pub(super) enum Lowering {
    /// The first operand as it is.
    Same,
    /// Element-wise function of the first operand.
    Unary(Unary),
    /// Element-wise function of two operands, after promotion of their types.
    Binary(Binary),
    /// The same where at least one is a number that takes the type of the other.
    Scalar(Binary),
    /// Arithmetic on numbers.
    Number(Binary),
    /// Reduction: `(x, axis=(), keep_dims=False)`.
    Reduce(ReduceKind),
    /// The same with a type to convert to before as the fourth argument.
    ReduceAs(ReduceKind),
    /// Anything else.
    Custom(fn(&mut Call) -> Result<Item>),
    /// One result.
    Value(fn(&mut Call) -> Result<ValueId>),
    /// The new value of the parameter that is the first operand.
    Write(fn(&mut Call) -> Result<ValueId>),
}

impl Lowering {
    pub(super) fn apply(self, call: &mut Call) -> Result<Item> {
        match self {
            Same => call.args.first().cloned().ok_or_else(|| call.invalid("its operand is missing")),
            Lowering::Unary(f) => elementwise::unary(call, f).map(Item::Tensor),
            Lowering::Binary(f) => elementwise::binary(call, f).map(Item::Tensor),
            Lowering::Scalar(f) => elementwise::with_scalar(call, f).map(Item::Tensor),
            Lowering::Number(f) => scalar::arithmetic(call, f),
            Lowering::Reduce(kind) => reduce::reduce(call, kind).map(Item::Tensor),
            Lowering::ReduceAs(kind) => reduce::reduce_as(call, kind).map(Item::Tensor),
            Lowering::Custom(lower) => lower(call),
            Lowering::Value(lower) | Lowering::Write(lower) => lower(call).map(Item::Tensor),
        }
    }
}

/// The lowering of a primitive, if there is one; the others are carried verbatim.
pub(super) fn find(op_type: &str) -> Option<Lowering> {
    static INDEX: LazyLock<HashMap<&str, Lowering>> = LazyLock::new(|| TABLE.iter().copied().collect());
    INDEX.get(op_type).copied()
}

use Lowering::{
    Binary as B, Custom as C, Number as N, Reduce as R, ReduceAs as Ra, Same, Scalar as S, Unary as U,
};
use Lowering::{Value as V, Write as W};

#[rustfmt::skip]
const TABLE: &[(&str, Lowering)] = &[
    // The same value.
    ("Identity", Same), ("TensorMove", Same), ("StopGradient", Same), ("stop_gradient", Same), ("Contiguous", Same),
    ("Copy", Same), ("Clone", Same), ("BpropCut", Same), ("InsertGradientOf", Same), ("MoveTo", Same),
    ("_VirtualDataset", Same), ("_VirtualOutput", Same), ("_VirtualDiv", Same), ("_MirrorOperator", Same),
    ("AShardIdentity", Same), ("Morph", Same),

    // Functions of one tensor.
    ("Abs", U(Unary::Abs)), ("Neg", U(Unary::Neg)), ("Sign", U(Unary::Sign)), ("Exp", U(Unary::Exp)),
    ("Expm1", U(Unary::Expm1)), ("Log1p", U(Unary::Log1p)), ("Sqrt", U(Unary::Sqrt)), ("Rsqrt", U(Unary::Rsqrt)),
    ("Square", U(Unary::Square)), ("Reciprocal", U(Unary::Reciprocal)), ("Inv", U(Unary::Reciprocal)),
    ("Floor", U(Unary::Floor)), ("Ceil", U(Unary::Ceil)), ("Rint", U(Unary::Round)), ("Trunc", U(Unary::Trunc)),
    ("Sin", U(Unary::Sin)), ("Cos", U(Unary::Cos)), ("Tan", U(Unary::Tan)), ("Asin", U(Unary::Asin)),
    ("AsinExt", U(Unary::Asin)), ("ACos", U(Unary::Acos)), ("AcosExt", U(Unary::Acos)), ("Atan", U(Unary::Atan)),
    ("AtanExt", U(Unary::Atan)), ("Sinh", U(Unary::Sinh)), ("Cosh", U(Unary::Cosh)), ("Tanh", U(Unary::Tanh)),
    ("Erf", U(Unary::Erf)), ("Erfc", U(Unary::Erfc)), ("Sigmoid", U(Unary::Sigmoid)), ("ReLU", U(Unary::Relu)),
    ("ReLU6", U(Unary::Relu6)), ("GeLU", U(Unary::GeluTanh)), ("FastGeLU", U(Unary::FastGelu)),
    ("SiLU", U(Unary::Silu)), ("Mish", U(Unary::Mish)), ("MishExt", U(Unary::Mish)), ("HSwish", U(Unary::HardSwish)),
    ("HSigmoid", U(Unary::HardSigmoid)), ("Softplus", U(Unary::Softplus)), ("Softsign", U(Unary::Softsign)),
    ("IsNan", U(Unary::IsNan)), ("IsInf", U(Unary::IsInf)), ("IsFinite", U(Unary::IsFinite)),
    ("BitwiseNot", U(Unary::Not)), ("LogicalNot", V(elementwise::logical_not)), ("Log", V(elementwise::log)),
    ("Round", V(elementwise::round)), ("GeluExt", V(elementwise::gelu)), ("Elu", V(elementwise::elu)),
    ("EluExt", V(elementwise::elu)), ("SeLU", V(elementwise::selu)), ("SeLUExt", V(elementwise::selu)),
    ("CeLU", V(elementwise::celu)), ("LeakyReLU", V(elementwise::leaky_relu)),
    ("LeakyReLUExt", V(elementwise::leaky_relu)), ("LeakyRelu", V(elementwise::leaky_relu)),
    ("Hardtanh", V(elementwise::hardtanh)), ("HShrink", V(elementwise::hard_shrink)),
    ("SoftShrink", V(elementwise::soft_shrink)), ("PReLU", V(elementwise::prelu)),
    ("LogSigmoid", V(elementwise::log_sigmoid)), ("Acosh", V(elementwise::acosh)), ("AcoshExt", V(elementwise::acosh)),
    ("Asinh", V(elementwise::asinh)), ("AsinhExt", V(elementwise::asinh)), ("Atanh", V(elementwise::atanh)),
    ("Log2", V(elementwise::log2)), ("Log10", V(elementwise::log10)), ("Exp2", V(elementwise::exp2)),
    ("NanToNum", V(elementwise::nan_to_num)), ("Swiglu", V(elementwise::swiglu)), ("GLU", V(elementwise::glu)),
    ("Activation", V(elementwise::lite_activation)), ("Dropout", C(elementwise::dropout)),
    ("DropoutExt", C(elementwise::dropout)),

    // Functions of two tensors.
    ("Add", B(Binary::Add)), ("Sub", B(Binary::Sub)), ("Mul", B(Binary::Mul)), ("Div", B(Binary::Div)),
    ("RealDiv", B(Binary::Div)), ("FloorDiv", B(Binary::FloorDiv)), ("FloorMod", B(Binary::FloorMod)),
    ("RemainderTensorTensor", B(Binary::FloorMod)), ("Mod", B(Binary::TruncMod)),
    ("TruncateDiv", B(Binary::TruncDiv)), ("TruncateMod", B(Binary::TruncMod)), ("Pow", B(Binary::Pow)),
    ("Maximum", B(Binary::Maximum)), ("Minimum", B(Binary::Minimum)),
    ("SquaredDifference", B(Binary::SquaredDifference)), ("Atan2", B(Binary::Atan2)), ("Atan2Ext", B(Binary::Atan2)),
    ("Equal", B(Binary::Equal)), ("NotEqual", B(Binary::NotEqual)), ("Less", B(Binary::Less)),
    ("LessEqual", B(Binary::LessEqual)), ("Greater", B(Binary::Greater)),
    ("GreaterEqual", B(Binary::GreaterEqual)), ("BitwiseAnd", B(Binary::And)), ("BitwiseOr", B(Binary::Or)),
    ("BitwiseXor", B(Binary::Xor)), ("BitwiseAndTensor", B(Binary::And)), ("BitwiseOrTensor", B(Binary::Or)),
    ("BitwiseXorTensor", B(Binary::Xor)),
    ("LogicalAnd", V(compare::logical_and)), ("LogicalOr", V(compare::logical_or)),
    ("LogicalXor", V(compare::logical_xor)), ("DivMod", V(elementwise::div_mod)), ("DivMods", V(elementwise::div_mod)),
    ("Hypot", V(elementwise::hypot)), ("AddExt", V(elementwise::add_ext)), ("SubExt", V(elementwise::sub_ext)),
    ("AddFusion", V(elementwise::add_fusion)), ("MulFusion", V(elementwise::mul_fusion)),
    ("SubFusion", V(elementwise::sub_fusion)), ("DivFusion", V(elementwise::div_fusion)),
    ("DivNoNan", V(elementwise::div_no_nan)), ("Xdivy", V(elementwise::xdivy)), ("PowFusion", B(Binary::Pow)),

    // One of them a number.
    ("Adds", S(Binary::Add)), ("Subs", S(Binary::Sub)), ("Muls", S(Binary::Mul)), ("Divs", S(Binary::Div)),
    ("AddScalar", S(Binary::Add)), ("SubScalar", S(Binary::Sub)),
    ("RemainderTensorScalar", S(Binary::FloorMod)), ("RemainderScalarTensor", S(Binary::FloorMod)),
    ("PowTensorScalar", S(Binary::Pow)), ("PowScalarTensor", S(Binary::Pow)),
    ("EqScalar", S(Binary::Equal)), ("EqualScalar", S(Binary::Equal)), ("NotEqualScalar", S(Binary::NotEqual)),
    ("NeScalar", S(Binary::NotEqual)), ("LessScalar", S(Binary::Less)), ("LessEqualScalar", S(Binary::LessEqual)),
    ("GreaterScalar", S(Binary::Greater)), ("GreaterEqualScalar", S(Binary::GreaterEqual)),
    ("BitwiseAndScalar", S(Binary::And)), ("BitwiseOrScalar", S(Binary::Or)), ("BitwiseXorScalar", S(Binary::Xor)),
    ("MaximumScalar", S(Binary::Maximum)), ("MinimumScalar", S(Binary::Minimum)),
    ("FloorDivScalar", S(Binary::FloorDiv)),

    // Several tensors.
    ("Select", V(compare::select)), ("Where", V(compare::select)), ("MaskedFill", V(compare::masked_fill)),
    ("MaskedFillScalar", V(compare::masked_fill)), ("ClampScalar", V(compare::clamp)),
    ("ClampTensor", V(compare::clamp)), ("ClipByValue", V(compare::clamp)), ("AddN", V(elementwise::add_n)),
    ("AccumulateNV2", V(elementwise::add_n)), ("Addcmul", V(elementwise::addcmul)),
    ("Addcdiv", V(elementwise::addcdiv)), ("Lerp", V(elementwise::lerp)), ("LerpScalar", V(elementwise::lerp)),

    // Numbers.
    ("ScalarAdd", N(Binary::Add)), ("ScalarSub", N(Binary::Sub)), ("ScalarMul", N(Binary::Mul)),
    ("ScalarDiv", N(Binary::Div)), ("ScalarFloorDiv", N(Binary::FloorDiv)), ("ScalarMod", N(Binary::FloorMod)),
    ("ScalarPow", N(Binary::Pow)), ("ScalarMax", N(Binary::Maximum)), ("ScalarMin", N(Binary::Minimum)),
    ("ScalarEq", N(Binary::Equal)), ("ScalarNe", N(Binary::NotEqual)), ("ScalarLt", N(Binary::Less)),
    ("ScalarLe", N(Binary::LessEqual)), ("ScalarGt", N(Binary::Greater)), ("ScalarGe", N(Binary::GreaterEqual)),
    ("scalar_add", N(Binary::Add)), ("scalar_sub", N(Binary::Sub)), ("scalar_mul", N(Binary::Mul)),
    ("scalar_div", N(Binary::Div)), ("scalar_floordiv", N(Binary::FloorDiv)), ("scalar_mod", N(Binary::FloorMod)),
    ("scalar_eq", N(Binary::Equal)), ("scalar_ne", N(Binary::NotEqual)), ("scalar_lt", N(Binary::Less)),
    ("scalar_le", N(Binary::LessEqual)), ("scalar_gt", N(Binary::Greater)), ("scalar_ge", N(Binary::GreaterEqual)),
    ("bool_and", N(Binary::And)), ("BoolAnd", N(Binary::And)), ("bool_or", N(Binary::Or)), ("BoolOr", N(Binary::Or)),
    ("bool_not", C(scalar::not)), ("BoolNot", C(scalar::not)), ("ScalarUsub", C(scalar::negate)),
    ("scalar_usub", C(scalar::negate)), ("ScalarUadd", Same), ("scalar_uadd", Same),
    ("ScalarCast", C(scalar::cast)), ("ScalarBool", C(scalar::truth)),
    ("ScalarToTensor", C(scalar::to_tensor)), ("TupleToTensor", C(scalar::to_tensor)),
    ("ListToTensor", C(scalar::to_tensor)), ("TensorToScalar", C(scalar::to_scalar)),
    ("TensorToTuple", C(scalar::to_tuple)), ("TensorToList", C(scalar::to_tuple)), ("Cast", C(scalar::cast)),
    ("sequence_len", C(scalar::length)), ("tuple_len", C(scalar::length)), ("SequenceConcat", C(scalar::join)),

    // Reductions.
    ("ReduceSum", R(ReduceKind::Sum)), ("ReduceMean", R(ReduceKind::Mean)), ("ReduceMax", R(ReduceKind::Max)),
    ("ReduceMin", R(ReduceKind::Min)), ("ReduceProd", R(ReduceKind::Prod)), ("ReduceAll", R(ReduceKind::All)),
    ("ReduceAny", R(ReduceKind::Any)), ("AMax", R(ReduceKind::Max)), ("AMin", R(ReduceKind::Min)),
    ("Max", R(ReduceKind::Max)), ("Min", R(ReduceKind::Min)), ("SumExt", Ra(ReduceKind::Sum)),
    ("MeanExt", Ra(ReduceKind::Mean)), ("ProdExt", Ra(ReduceKind::Prod)), ("ReduceStd", C(reduce::std)),
    ("ReduceFusion", V(reduce::lite_reduce)), ("LpNorm", V(reduce::lp_norm)), ("LogSumExp", V(reduce::log_sum_exp)),
    ("Argmax", V(reduce::argmax)), ("Argmin", V(reduce::argmin)), ("ArgMaxExt", V(reduce::argmax)),
    ("ArgMinExt", V(reduce::argmin)), ("ArgMaxWithValue", C(reduce::argmax_with_value)),
    ("ArgMinWithValue", C(reduce::argmin_with_value)), ("MaxDim", C(reduce::max_dim)), ("MinDim", C(reduce::min_dim)),
    ("CumSum", V(reduce::cumsum)), ("CumProd", V(reduce::cumprod)), ("CumsumExt", V(reduce::cumsum_ext)),
    ("Softmax", V(reduce::softmax)), ("LogSoftmax", V(reduce::log_softmax)), ("LogSoftmaxExt", V(reduce::log_softmax)),

    // Linear algebra.
    ("MatMul", V(linear::matmul)), ("BatchMatMul", V(linear::matmul)), ("MatMulExt", V(linear::matmul_ext)),
    ("BatchMatMulExt", V(linear::matmul_ext)), ("Dense", V(linear::dense)), ("BiasAdd", V(linear::bias_add)),
    ("MatMulFusion", V(linear::matmul_fusion)), ("FullConnection", V(linear::full_connection)),
    ("Baddbmm", V(linear::addmm)), ("Addmm", V(linear::addmm)), ("LSTM", C(linear::lstm)),

    // Convolution and pooling.
    ("Conv2D", V(conv::conv2d)), ("Conv2DFusion", V(conv::conv2d_fusion)), ("Conv2DExt", V(conv::conv2d_ext)),
    ("Conv2DTranspose", V(conv::conv2d_transpose)), ("Conv2DBackpropInput", V(conv::conv2d_transpose)),
    ("MaxPool", V(pool::max_pool)), ("AvgPool", V(pool::avg_pool)), ("MaxPoolFusion", V(pool::max_pool_fusion)),
    ("AvgPoolFusion", V(pool::avg_pool_fusion)), ("AvgPool2D", V(pool::avg_pool2d)), ("AvgPool3D", V(pool::avg_pool3d)),
    ("MaxPool3D", V(pool::max_pool3d)), ("MaxPoolWithArgmaxV2", C(pool::max_pool_with_argmax)),
    ("MaxPoolWithMask", C(pool::max_pool_with_mask)), ("MaxPoolWithIndices", C(pool::max_pool_with_mask)),
    ("AdaptiveAvgPool2D", V(pool::adaptive_avg_pool)), ("AdaptiveAvgPool2DExt", V(pool::adaptive_avg_pool)),
    ("AdaptiveMaxPool2D", C(pool::adaptive_max_pool)),
    ("ResizeBilinearV2", C(resize::bilinear)), ("UpsampleBilinear2D", C(resize::upsample_bilinear)),
    ("ResizeNearestNeighborV2", C(resize::nearest)), ("UpsampleNearest2D", C(resize::upsample_nearest)),

    // Normalisation.
    ("LayerNorm", C(norm::layer_norm)), ("LayerNormExt", C(norm::layer_norm_ext)),
    ("LayerNormFusion", C(norm::layer_norm)), ("RmsNorm", C(norm::rms_norm)), ("AddRmsNorm", C(norm::add_rms_norm)),
    ("BatchNorm", C(norm::batch_norm)), ("BatchNormExt", C(norm::batch_norm)), ("FusedBatchNorm", C(norm::batch_norm)),
    ("GroupNorm", C(norm::group_norm)), ("L2Normalize", V(norm::l2_normalize)),

    // Shape and layout.
    ("Reshape", V(shape::reshape)), ("View", V(shape::reshape)), ("Transpose", V(shape::transpose)),
    ("TransposeView", V(shape::transpose)), ("TransposeExtView", V(shape::swap_axes)),
    ("TransposeExt", V(shape::swap_axes)), ("ExpandDims", V(shape::expand_dims)),
    ("ExpandDimsView", V(shape::expand_dims)), ("Squeeze", V(shape::squeeze)), ("Flatten", V(shape::flatten)),
    ("FlattenExt", V(shape::flatten_ext)), ("Concat", V(shape::concat)), ("Stack", V(shape::stack)),
    ("StackExt", V(shape::stack)), ("Pack", V(shape::stack)), ("Unstack", C(shape::unstack)),
    ("UnstackExt", C(shape::unstack)), ("Unpack", C(shape::unstack)), ("Split", C(shape::split)),
    ("SplitWithSize", C(shape::split_with_size)), ("SplitWithSizeView", C(shape::split_with_size)),
    ("SplitTensor", C(shape::split_tensor)), ("SplitTensorView", C(shape::split_tensor)),
    ("SplitV", C(shape::split_v)), ("Chunk", C(shape::chunk)), ("ChunkView", C(shape::chunk)),
    ("Tile", V(shape::tile)), ("TileFusion", V(shape::tile)), ("Repeat", V(shape::tile)),
    ("BroadcastTo", V(shape::broadcast_to)), ("BroadcastToView", V(shape::broadcast_to)),
    ("ExpandAs", V(shape::expand_as)), ("Shape", C(shape::shape)), ("DynamicShape", C(shape::tensor_shape)),
    ("TensorShape", C(shape::tensor_shape)), ("Rank", C(shape::rank)), ("Size", C(shape::size)),
    ("DepthToSpace", V(shape::depth_to_space)), ("SpaceToDepth", V(shape::space_to_depth)),
    ("PixelShuffle", V(shape::pixel_shuffle)), ("Meshgrid", C(shape::meshgrid)),
    ("RepeatInterleaveInt", V(shape::repeat_interleave)),

    // Parts of tensors.
    ("StridedSlice", V(slice::strided_slice)), ("Slice", V(slice::slice)), ("SliceFusion", V(slice::slice)),
    ("Narrow", V(slice::narrow)), ("NarrowView", V(slice::narrow)), ("SliceExt", V(slice::slice_ext)),
    ("SliceExtView", V(slice::slice_ext)), ("SelectExt", V(slice::select_ext)),
    ("SelectExtView", V(slice::select_ext)), ("ReverseV2", V(slice::reverse)), ("Roll", V(slice::roll)),
    ("PadV3", V(slice::pad_v3)), ("Pad", V(slice::pad)), ("PadFusion", V(slice::pad_fusion)),
    ("MirrorPad", V(slice::mirror_pad)), ("ConstantPadND", V(slice::constant_pad)), ("Tril", V(slice::tril)),
    ("TrilExt", V(slice::tril)), ("Triu", V(slice::triu)), ("Diag", V(diagonal::diag)), ("Diagonal", V(diagonal::diagonal)),
    ("DiagonalView", V(diagonal::diagonal)), ("Im2Col", V(conv::im2col)),

    // Indices.
    ("Gather", V(index::gather)), ("GatherV2", V(index::gather)), ("IndexSelect", V(index::index_select)),
    ("GatherD", V(index::gather_d)), ("GatherDExt", V(index::gather_d)), ("GatherNd", V(index::gather_nd)),
    ("Embedding", V(index::embedding)), ("EmbeddingLookup", V(index::embedding_lookup)),
    ("ScatterNd", V(index::scatter_nd)), ("TensorScatterUpdate", V(index::tensor_scatter_update)),
    ("TensorScatterAdd", V(index::tensor_scatter_add)), ("OneHot", V(index::one_hot)), ("TopK", C(index::top_k)),
    ("TopkExt", C(index::top_k_ext)), ("Sort", C(index::sort)), ("SortExt", C(index::sort_ext)),
    ("TensorScatterElements", V(index::tensor_scatter_elements)), ("Scatter", V(index::scatter_dim)),
    ("IndexFill", V(index::index_fill)), ("Kthvalue", C(index::kth_value)), ("SearchSorted", V(index::search_sorted)),

    // Creation.
    ("Zeros", V(create::zeros)), ("Ones", V(create::ones)), ("ZerosLike", V(create::zeros_like)),
    ("OnesLike", V(create::ones_like)), ("ZerosLikeExt", V(create::zeros_like)), ("OnesLikeExt", V(create::ones_like)),
    ("FillV2", V(create::fill)), ("Fill", V(create::fill_v1)), ("FillScalar", V(create::fill)),
    ("FillTensor", V(create::fill)), ("FullLike", V(create::full_like)), ("Eye", V(create::eye)),
    ("Range", V(create::range)), ("Arange", V(create::range)), ("LinSpace", V(create::lin_space)),
    ("LinSpaceExt", V(create::lin_space)),

    // Attention.
    ("FlashAttentionScore", C(attention::flash_attention)),
    ("PromptFlashAttention", C(attention::prompt_flash_attention)),

    // Writes.
    ("Assign", W(state::assign)), ("AssignAdd", W(state::assign_add)), ("AssignSub", W(state::assign_sub)),
    ("ScatterNdUpdate", W(state::scatter_nd_update)), ("ScatterNdAdd", W(state::scatter_nd_add)),
    ("ScatterUpdate", W(state::scatter_update)), ("ScatterAdd", W(state::scatter_add)),
    ("IndexAdd", W(state::index_add)), ("InplaceCopy", W(state::assign)), ("InplaceAddExt", W(state::assign_add)),

    // Other ranks.
    ("AllReduce", C(collective::all_reduce)), ("AllGather", C(collective::all_gather)),
    ("ReduceScatter", C(collective::reduce_scatter)), ("Broadcast", C(collective::broadcast)),
    ("Reduce", C(collective::reduce)), ("CollectiveGather", C(collective::gather)),
    ("CollectiveScatter", C(collective::scatter)), ("Send", C(collective::send)),
    ("Receive", C(collective::receive)), ("AlltoAll", C(collective::all_to_all)), ("AllToAll", C(collective::all_to_all)),
    ("Barrier", C(collective::barrier)), ("BatchISendIRecv", C(collective::batch)),
    ("AllGatherV", C(collective::all_gather_v)),
];
