//! Which lowering each primitive has.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::call::Call;
use super::item::Item;
use super::ops::{
    arith, attention, cache, collective, compare, complex, conv, conv3d, count, create, data, detection,
    diagonal, elementwise, exchange, halo, index, inplace, linear, loss, matrix, moe, norm, pool, products,
    quant, random, recurrent, reduce, resize, sample, scalar, scatter, sequence, shape, slice, solve, space,
    special, state, stats, various,
};
use crate::Result;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Distribution, ReduceKind, Unary};

/// A result, and what parameters hold afterwards.
pub(super) type Written = (Item, Vec<ValueId>);

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
    /// As [`Write`](Self::Write): what the functional primitive of this name gives.
    InPlace(&'static str),
    /// Random numbers of a distribution: the first argument is the state, and the answer is the result and the next
    /// state.
    Draw(Distribution, fn(&mut Call, ValueId) -> Result<(Item, ValueId)>),
    /// One result, and the new values of the parameters that are the operands at these positions, or none.
    WriteAt(&'static [usize], fn(&mut Call) -> Result<Written>),
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
            Lowering::InPlace(functional) => inplace::written(call, functional).map(Item::Tensor),
            Lowering::WriteAt(_, lower) => lower(call).map(|(item, _)| item),
            Lowering::Draw(..) => Err(call.invalid("it has no state")),
        }
    }

    /// Whether the result is what the first operand holds afterwards.
    pub(super) fn writes(self) -> bool {
        matches!(self, Lowering::Write(_) | Lowering::InPlace(_))
    }
}

/// The lowering of a primitive, if there is one; the others are carried verbatim.
pub(super) fn find(op_type: &str) -> Option<Lowering> {
    static INDEX: LazyLock<HashMap<&str, Lowering>> = LazyLock::new(|| TABLE.iter().copied().collect());
    INDEX.get(op_type).copied()
}

/// The primitives that have one.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

use Lowering::{
    Binary as B, Custom as C, Number as N, Reduce as R, ReduceAs as Ra, Same, Scalar as S, Unary as U,
};
use Lowering::{Draw as D, InPlace as I, Value as V, Write as W, WriteAt as Wa};

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
    ("Square", U(Unary::Square)), ("Reciprocal", U(Unary::Reciprocal)), ("Inv", V(elementwise::inverse)),
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
    ("RealDiv", V(elementwise::real_div)), ("FloorDiv", B(Binary::FloorDiv)), ("FloorMod", B(Binary::FloorMod)),
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
    ("sequence_len", C(scalar::length)), ("tuple_len", C(scalar::length)),

    // Sequences.
    ("SequenceAdd", C(sequence::add)), ("SequenceMul", C(sequence::repeat)), ("SequenceSlice", C(sequence::slice)),
    ("SequenceSliceSetItem", C(sequence::slice_set_item)), ("ListAppend", C(sequence::append)),
    ("ListInsert", C(sequence::insert)), ("make_range", C(sequence::range)), ("shape_mul", C(sequence::shape_product)),
    ("InSequence", C(sequence::contains)), ("SequenceCount", C(sequence::count)), ("SequenceIndex", C(sequence::index)),
    ("SequenceMax", C(sequence::extreme)), ("SequenceMin", C(sequence::extreme)),
    ("SequenceZerosLike", C(sequence::zeros)), ("tuple_equal", C(sequence::equal)), ("list_equal", C(sequence::equal)),
    ("tuple_lt", C(sequence::compare)), ("list_lt", C(sequence::compare)), ("tuple_le", C(sequence::compare)),
    ("list_le", C(sequence::compare)), ("tuple_greater_than", C(sequence::compare)),
    ("list_greater_than", C(sequence::compare)), ("tuple_greater_equal", C(sequence::compare)),
    ("list_greater_equal", C(sequence::compare)), ("SequenceConcat", V(shape::concat)),
    ("SequenceStack", V(shape::stack)), ("SequenceUnstack", C(shape::unstack)), ("SequenceAddN", V(elementwise::add_n)),

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
    ("Baddbmm", V(linear::addmm)), ("Addmm", V(linear::addmm)), ("LSTM", C(recurrent::lstm)),
    ("DynamicRNN", C(recurrent::dynamic_rnn)), ("DynamicGRUV2", C(recurrent::dynamic_gru)),
    ("BasicLSTMCell", C(recurrent::basic_lstm_cell)),

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
    ("BatchNorm", Wa(&[3, 4], norm::batch_norm)), ("BatchNormExt", Wa(&[3, 4], norm::batch_norm)),
    ("FusedBatchNorm", Wa(&[3, 4], norm::batch_norm)),
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

    // Extents that follow from data.
    ("NonZero", V(data::non_zero)), ("NonZeroExt", C(data::non_zero_by_axis)), ("MaskedSelect", V(data::masked_select)),
    ("Unique", C(data::unique)), ("Unique2", C(data::unique_sorted)), ("InnerUnique", C(data::unique_sorted)),
    ("UniqueConsecutive", C(data::unique_consecutive)), ("CTCGreedyDecoder", C(data::ctc_greedy_decoder)),

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
    ("IndexAdd", W(state::index_add)), ("InplaceCopy", W(state::assign)), ("DynamicAssign", W(state::assign)),
    ("CopyWithSlice", W(state::assign)),

    // Other ranks.
    ("AllReduce", C(collective::all_reduce)), ("AllGather", C(collective::all_gather)),
    ("ReduceScatter", C(collective::reduce_scatter)), ("Broadcast", C(collective::broadcast)),
    ("Reduce", C(collective::reduce)), ("CollectiveGather", C(collective::gather)),
    ("CollectiveScatter", C(collective::scatter)), ("Send", C(collective::send)),
    ("Receive", C(collective::receive)), ("AlltoAll", C(collective::all_to_all)), ("AllToAll", C(collective::all_to_all)),
    ("Barrier", C(collective::barrier)), ("BatchISendIRecv", C(collective::batch)),
    ("AllGatherV", C(collective::all_gather_v)), ("NeighborExchangeV2", C(halo::neighbor_exchange_v2)),
    ("NeighborExchange", C(exchange::neighbor_exchange)), ("AlltoAllV", C(exchange::all_to_all_v)),
    ("AlltoAllVC", C(exchange::all_to_all_vc)), ("ReduceScatterV", C(exchange::reduce_scatter_v)),

    // More functions of tensors.
    ("AddV2", B(Binary::Add)), ("AddcmulExt", V(elementwise::addcmul)), ("AddcdivExt", V(elementwise::addcdiv)),
    ("ApproximateEqual", V(arith::approximate_equal)), ("Bucketize", V(scatter::bucketize)),
    ("EqualExt", V(arith::all_equal)), ("Erfinv", V(arith::erfinv)), ("Fmax", V(arith::fmax)), ("Fmin", V(arith::fmin)),
    ("FmodScalar", S(Binary::TruncMod)), ("FmodTensor", B(Binary::TruncMod)), ("Frac", V(arith::frac)),
    ("Heaviside", V(arith::heaviside)), ("Invert", U(Unary::Not)), ("IsClose", V(arith::is_close)),
    ("IsNegInf", V(arith::is_neg_inf)), ("LeftShift", V(arith::left_shift)), ("RightShift", V(arith::right_shift)),
    ("LogAddExp", V(arith::log_add_exp)), ("LogAddExp2", V(arith::log_add_exp2)), ("Logit", V(arith::logit)),
    ("MixedPrecisionCast", C(arith::mixed_precision_cast)), ("MulNoNan", V(arith::mul_no_nan)),
    ("NpuGelu", V(elementwise::gelu)), ("ReLUV3", U(Unary::Relu)), ("Real", V(complex::real_part)),
    ("SelectV2", V(compare::select)), ("SequenceMask", V(arith::sequence_mask)), ("Sinc", V(arith::sinc)),
    ("SoftplusExt", V(arith::softplus)), ("Threshold", V(arith::threshold)), ("ToDevice", V(arith::to_dtype)),
    ("ToDtype", V(arith::to_dtype)), ("ToOther", V(arith::type_as)), ("TypeAs", V(arith::type_as)),
    ("Xlogy", V(arith::xlogy)), ("XLogYScalarOther", V(arith::xlogy)), ("XLogYScalarSelf", V(arith::xlogy)),
    ("CopyToDevice", Same), ("CopyToHost", Same), ("ConvertToDynamic", Same), ("IdentityN", C(shape::all)),

    // Statistics and norms.
    ("Any", V(stats::any)), ("AnyExt", V(stats::any)), ("ArgSort", V(stats::arg_sort)),
    ("ArgminV2", V(stats::argmin_v2)), ("Cdist", V(stats::cdist)), ("Centralization", V(stats::centralization)),
    ("ClipByNorm", V(stats::clip_by_norm)), ("CountNonZero", V(stats::count_non_zero)), ("Cummax", C(stats::cummax)),
    ("Cummin", C(stats::cummin)), ("CumminExt", C(stats::cummin)), ("EuclideanNorm", V(stats::euclidean_norm)),
    ("InTopK", V(stats::in_top_k)), ("LinalgVectorNorm", V(stats::vector_norm)), ("LpNormV2", V(stats::vector_norm)),
    ("Median", C(stats::median)), ("MedianDim", C(stats::median)), ("MedianExt", C(stats::median)),
    ("Nansum", V(stats::nansum)), ("Norm", V(stats::vector_norm)), ("SquareSumAll", C(stats::square_sum_all)),
    ("Std", V(stats::std)), ("StdMean", C(stats::std_mean)), ("Trace", V(stats::trace)), ("TraceExt", V(stats::trace)),
    ("Var", V(stats::var)), ("VarMean", C(stats::var_mean)),

    // More linear algebra.
    ("Addbmm", V(products::addbmm)), ("Addmv", V(products::addmv)), ("Addr", V(products::addr)),
    ("Cross", V(products::cross)), ("Dot", V(linear::matmul_ext)), ("Vdot", V(linear::matmul_ext)),
    ("Mm", V(linear::matmul_ext)), ("Mv", V(linear::matmul_ext)), ("Ger", V(products::outer)),
    ("Outer", V(products::outer)), ("Einsum", V(products::einsum)), ("EinsumExt", V(products::einsum)),
    ("Cholesky", V(solve::cholesky)), ("CholeskyInverse", V(solve::cholesky_inverse)),
    ("CholeskySolve", V(solve::cholesky_solve)), ("LogMatrixDeterminant", C(solve::log_determinant)),
    ("MatrixBandPart", V(solve::band)), ("MatrixDeterminant", V(solve::determinant)),
    ("MatrixInverse", V(solve::inverse)), ("MatrixInverseExt", V(solve::inverse)), ("MatrixPower", V(solve::power)),
    ("MatrixSolve", V(solve::solve)), ("MatrixTriangularSolve", C(solve::triangular)),
    ("SolveTriangular", C(solve::triangular)), ("TriangularSolve", C(solve::triangular)),

    // More convolution and pooling.
    ("Conv3D", V(conv3d::conv3d)), ("Conv3DTranspose", V(conv3d::conv3d_transpose)),
    ("Conv3DExt", V(conv3d::conv3d_ext)), ("Conv3DPadding", V(conv3d::conv3d_ext)),
    ("Conv2DPadding", V(conv::conv2d_ext)), ("Conv1DExt", V(conv3d::conv1d_ext)),
    ("Conv1DPadding", V(conv3d::conv1d_ext)), ("ConvTranspose2D", V(conv3d::conv_transpose2d)),
    ("Convolution", C(conv3d::convolution)), ("AdaptiveAvgPool1D", V(space::adaptive_avg)),
    ("AdaptiveAvgPool3D", V(space::adaptive_avg)), ("AdaptiveAvgPool3DExt", V(space::adaptive_avg)),
    ("AdaptiveMaxPool1D", C(space::adaptive_max)), ("AdaptiveMaxPool3D", C(space::adaptive_max)),
    ("LRN", V(space::lrn)), ("InstanceNorm", C(space::instance_norm)), ("AddLayerNormV2", C(norm::add_layer_norm)),
    ("LayerNormV3", C(norm::layer_norm)),

    // Images and boxes.
    ("AffineGrid", C(sample::affine_grid)), ("BoundingBoxDecode", V(detection::decode)),
    ("BoundingBoxEncode", V(detection::encode)), ("CheckValid", V(detection::check_valid)),
    ("CropAndResize", V(detection::crop_and_resize)), ("GridSampler2D", C(sample::grid_sampler)),
    ("IOU", V(detection::iou)), ("NMSWithMask", C(detection::nms_with_mask)), ("ResizeBicubic", C(sample::bicubic)),
    ("ResizeLinear1D", C(sample::linear1d)), ("ResizeNearestNeighbor", C(resize::nearest)),
    ("UpsampleBicubic2D", C(sample::upsample_bicubic)), ("UpsampleLinear1D", C(sample::upsample_linear)),
    ("UpsampleNearest1D", C(sample::upsample_nearest)), ("UpsampleNearest3D", C(sample::upsample_nearest)),
    ("UpsampleTrilinear3D", C(sample::upsample_linear)),

    // More layout.
    ("BatchToSpace", V(space::batch_to_space)), ("Col2Im", V(conv::col2im)), ("Col2ImExt", V(conv::col2im)),
    ("ExtractImagePatches", V(conv::extract_patches)), ("Im2ColExt", V(conv::im2col_ext)),
    ("BatchToSpaceND", V(space::batch_to_space)),
    ("BatchToSpaceNDV2", V(space::batch_to_space)), ("ChannelShuffle", V(space::channel_shuffle)),
    ("ReflectionPad1D", V(space::reflection_pad)), ("ReflectionPad2D", V(space::reflection_pad)),
    ("ReflectionPad3D", V(space::reflection_pad)), ("ReplicationPad1D", V(space::replication_pad)),
    ("ReplicationPad2D", V(space::replication_pad)), ("ReplicationPad3D", V(space::replication_pad)),
    ("SpaceToBatch", V(space::space_to_batch)), ("SpaceToBatchND", V(space::space_to_batch)),
    ("TExt", V(shape::matrix_transpose)), ("Unsqueeze", V(shape::unsqueeze)), ("ViewAs", V(shape::view_as)),
    ("UnstackExtView", C(shape::unstack)), ("SelectView", V(scatter::select_view)),

    // More indices.
    ("FillDiagonal", V(scatter::fill_diagonal)), ("GatherNdExt", V(index::gather_nd)), ("Index", V(scatter::index)),
    ("InnerIndex", V(scatter::index)), ("IndexAddExt", V(scatter::index_add_ext)),
    ("IndexFillScalar", V(index::index_fill)), ("IndexFillTensor", V(index::index_fill)),
    ("IndexPut", V(scatter::index_put)), ("MaskedScatter", V(scatter::masked_scatter)),
    ("RepeatInterleaveTensor", V(scatter::repeat_interleave)), ("ReverseSequence", V(scatter::reverse_sequence)),
    ("ScatterAddExt", V(scatter::add_elements)), ("ScatterValue", V(scatter::value_elements)),
    ("Take", V(scatter::take)), ("TensorCopySlices", V(scatter::copy_slices)),
    ("TensorScatterDiv", V(scatter::div)), ("TensorScatterMax", V(scatter::max)), ("TensorScatterMin", V(scatter::min)),
    ("TensorScatterMul", V(scatter::mul)), ("TensorScatterSub", V(scatter::sub)),
    ("UnsortedSegmentMax", V(scatter::segment_max)), ("UnsortedSegmentMin", V(scatter::segment_min)),
    ("UnsortedSegmentProd", V(scatter::segment_prod)), ("UnsortedSegmentSum", V(scatter::segment_sum)),

    // More creation.
    ("Empty", V(create::zeros)), ("EmptyLike", V(create::zeros_like)), ("Fills", V(create::full_like)),
    ("NewEmpty", V(create::new_zeros)), ("NewFull", V(create::new_full)), ("NewOnes", V(create::new_ones)),
    ("NewZeros", V(create::new_zeros)), ("OneHotExt", V(create::one_hot_ext)),
    ("TrilIndices", V(create::triangle_indices)), ("TriuIndices", V(create::triangle_indices)),

    // Language models.
    ("IncreFlashAttention", C(attention::incre_flash_attention)), ("PagedAttention", C(cache::paged_attention)),
    ("RotaryPositionEmbedding", V(attention::rotary)), ("MoeGatingTopKSoftmax", C(moe::gating)),
    ("MoeTokenPermute", C(moe::permute)), ("MoeTokenUnpermute", C(moe::unpermute)),
    ("InnerMoeTokenUnpermute", C(moe::unpermute)), ("DynamicQuantExt", C(quant::dynamic)), ("QuantV2", C(quant::quantised)),
    ("QuantBatchMatmul", C(quant::matmul)), ("QuantMatmul", C(quant::matmul_v2)),
    ("WeightQuantBatchMatmul", C(quant::by_weight)),

    // Random numbers.
    ("StandardNormal", D(Distribution::Normal, random::plain)),
    ("UniformReal", D(Distribution::FineUniform, random::plain)),
    ("StandardLaplace", D(Distribution::Uniform, random::laplace)),
    ("UniformInt", D(Distribution::Integers, random::integers)),
    ("Multinomial", D(Distribution::Uniform, random::multinomial)),

    // Complex numbers.
    ("Complex", V(complex::complex)), ("Polar", V(complex::polar)), ("Imag", V(complex::imaginary_part)),
    ("RealView", V(complex::real_part)), ("ImagView", V(complex::imaginary_part)), ("Conj", V(complex::conjugate)),
    ("ConjugateTranspose", V(complex::conjugate_transpose)), ("ComplexAbs", V(complex::size)),
    ("Angle", V(complex::angle)), ("FFT", C(complex::fourier)), ("FFT2", C(complex::fourier)),
    ("FFTN", C(complex::fourier)), ("IFFT", C(complex::fourier)), ("IFFT2", C(complex::fourier)),
    ("IFFTN", C(complex::fourier)), ("RFFT", C(complex::fourier)), ("RFFT2", C(complex::fourier)),
    ("RFFTN", C(complex::fourier)), ("IRFFT", C(complex::fourier)), ("IRFFT2", C(complex::fourier)),
    ("IRFFTN", C(complex::fourier)), ("HFFT", C(complex::fourier)), ("HFFT2", C(complex::fourier)),
    ("HFFTN", C(complex::fourier)), ("IHFFT", C(complex::fourier)), ("IHFFT2", C(complex::fourier)),
    ("IHFFTN", C(complex::fourier)), ("FFTWithSize", C(complex::fft_with_size)), ("DCT", C(complex::cosine)),
    ("DCTN", C(complex::cosine)), ("IDCT", C(complex::cosine)), ("IDCTN", C(complex::cosine)),
    ("FFTShift", V(complex::shifted)), ("IFFTShift", V(complex::shifted)),

    // Losses.
    ("MSELossExt", V(loss::squared)), ("L1LossExt", V(loss::absolute)), ("L2Loss", V(loss::half_square)),
    ("SmoothL1Loss", V(loss::smooth)), ("SoftMarginLoss", V(loss::soft_margin)),
    ("BinaryCrossEntropy", V(loss::binary_cross_entropy)), ("BCEWithLogitsLoss", V(loss::with_logits)),
    ("SigmoidCrossEntropyWithLogits", V(loss::sigmoid_cross_entropy)), ("KLDiv", V(loss::divergence)),
    ("KLDivLoss", V(loss::divergence)), ("SoftmaxCrossEntropyWithLogits", C(loss::softmax_cross_entropy)),
    ("SparseSoftmaxCrossEntropyWithLogits", V(loss::sparse_cross_entropy)),
    ("SparseSoftmaxCrossEntropyWithLogitsV2", C(loss::sparse_cross_entropy_v2)),
    ("NLLLoss", C(loss::negative_log_likelihood)), ("NLLLoss2d", C(loss::negative_log_likelihood)),
    ("CrossEntropyLoss", C(loss::cross_entropy)), ("CosineEmbeddingLoss", V(loss::cosine_embedding)),

    // Counts and segments.
    ("Bincount", C(count::bincount)), ("ConfusionMatrix", V(count::confusion)), ("Histogram", V(count::histogram)),
    ("HistcExt", V(count::histogram)), ("HistogramFixedWidth", V(count::histogram_fixed)),
    ("SegmentSum", C(count::segments)), ("SegmentMean", C(count::segments)), ("SegmentMax", C(count::segments)),
    ("SegmentMin", C(count::segments)), ("SegmentProd", C(count::segments)),
    ("SparseSegmentSum", C(count::sparse_segments)), ("SparseSegmentMean", C(count::sparse_segments)),
    ("SparseSegmentSqrtN", C(count::sparse_segments)),
    ("SparseSegmentSumWithNumSegments", C(count::sparse_segments)),
    ("SparseSegmentMeanWithNumSegments", C(count::sparse_segments)),
    ("SparseSegmentSqrtNWithNumSegments", C(count::sparse_segments)),
    ("InvertPermutation", C(count::inverted_permutation)),

    // Matrices and diagonals.
    ("DiagPart", V(matrix::diagonal_part)), ("DiagExt", C(matrix::diagonal_ext)),
    ("MatrixDiag", C(matrix::from_diagonals)), ("MatrixDiagV3", C(matrix::from_diagonals)),
    ("MatrixDiagPart", C(matrix::to_diagonals)), ("MatrixDiagPartV3", C(matrix::to_diagonals)),
    ("MatrixSetDiag", C(matrix::with_diagonals)), ("MatrixSetDiagV3", C(matrix::with_diagonals)),

    // Special functions.
    ("Lgamma", V(special::log_gamma)), ("Mvlgamma", V(special::multivariate_log_gamma)),
    ("Digamma", V(special::digamma)), ("BesselI0", V(special::bessel)), ("BesselI0e", V(special::bessel)),
    ("BesselI1", V(special::bessel)), ("BesselI1e", V(special::bessel)), ("BesselJ0", V(special::bessel)),
    ("BesselJ1", V(special::bessel)), ("BesselK0", V(special::bessel)), ("BesselK0e", V(special::bessel)),
    ("BesselK1", V(special::bessel)), ("BesselK1e", V(special::bessel)),

    // Various.
    ("LogSpace", V(various::log_space)), ("Renorm", V(various::renorm)),
    ("CumulativeLogsumexp", V(various::log_running_sum)), ("Pdist", C(various::pair_distances)),
    ("UpperBound", V(various::bound)), ("LowerBound", V(various::bound)), ("Gcd", V(various::common_divisor)),
    ("Lcm", V(various::common_multiple)), ("PopulationCount", V(various::population_count)),
    ("UnravelIndex", C(various::unravel)), ("MaxUnpool2D", C(various::unpooled)),
    ("MaxUnpool3D", C(various::unpooled)), ("DataFormatDimMap", V(various::format_map)),
    ("DataFormatVecPermute", V(various::format_map)), ("ROIAlign", C(detection::roi_align)),
    ("ApplyRotaryPosEmb", C(attention::rotary_by_position)),
    ("FusedInferAttentionScore", C(attention::fused_infer_attention)), ("MoeInitRouting", C(moe::init_routing)),
    ("MoeComputeExpertTokens", V(moe::expert_tokens)), ("MoeFinalizeRouting", V(moe::finalize_routing)),
    ("FFN", C(moe::feed_forward)), ("FFNExt", C(moe::feed_forward)), ("Quant", C(quant::by_numbers)),
    ("AntiQuant", V(quant::restored)), ("MatmulAllReduceAddRmsNorm", C(exchange::matmul_all_reduce_norm)),
    ("AllGatherMatmul", C(exchange::all_gather_matmul)), ("MatmulReduceScatter", C(exchange::matmul_reduce_scatter)),

    // More writes.
    ("ReshapeAndCache", Wa(&[2, 3], cache::reshape_and_cache)), ("KVCacheScatterUpdate", W(cache::scatter_update)),
    ("ScatterDiv", W(scatter::rows_div)), ("ScatterMax", W(scatter::rows_max)), ("ScatterMin", W(scatter::rows_min)),
    ("ScatterMul", W(scatter::rows_mul)), ("ScatterSub", W(scatter::rows_sub)), ("ScatterNdDiv", W(scatter::div)),
    ("ScatterNdMax", W(scatter::max)), ("ScatterNdMin", W(scatter::min)), ("ScatterNdMul", W(scatter::mul)),
    ("ScatterNdSub", W(scatter::sub)), ("InplaceAdd", V(scatter::rows_plus)), ("InplaceSub", V(scatter::rows_minus)),
    ("InplaceUpdateV2", V(scatter::rows_update)), ("InplaceIndexAdd", W(state::index_add)),
    ("InplaceIndexCopy", W(scatter::index_copy)), ("InplacePut", W(scatter::put)),
    ("InplaceScatterSrcReduce", W(scatter::reduced_elements)), ("InplaceScatterValueReduce", I("ScatterValue")),
    ("InplaceAddExt", I("AddExt")), ("InplaceAddsExt", I("AddExt")), ("InplaceAddmm", I("Addmm")), ("InplaceAddr", I("Addr")),
    ("InplaceClampScalar", I("ClampScalar")), ("InplaceClampTensor", I("ClampTensor")), ("InplaceDiv", I("Div")),
    ("InplaceDivMod", I("DivMod")), ("InplaceDivMods", I("DivMods")), ("InplaceDivs", I("Divs")), ("InplaceElu", I("Elu")),
    ("InplaceErfinv", I("Erfinv")), ("InplaceExp", I("Exp")), ("InplaceFillDiagonal", W(scatter::fill_diagonal)),
    ("InplaceFillScalar", I("FullLike")), ("InplaceFillTensor", I("FullLike")), ("InplaceFloor", I("Floor")),
    ("InplaceFloorDivide", I("FloorDiv")), ("InplaceFloorDivides", I("FloorDivScalar")), ("InplaceHardtanh", I("Hardtanh")),
    ("InplaceIndexAddExt", I("IndexAddExt")), ("InplaceIndexFillScalar", I("IndexFillScalar")),
    ("InplaceIndexFillTensor", I("IndexFillTensor")), ("InplaceIndexPut", W(scatter::index_put)),
    ("InnerInplaceIndexPut", W(scatter::index_put)), ("InplaceLog", I("Log")),
    ("InplaceMaskedFillScalar", I("MaskedFill")), ("InplaceMaskedFillTensor", I("MaskedFill")),
    ("InplaceMaskedScatter", I("MaskedScatter")), ("InplaceMul", I("Mul")), ("InplaceMuls", I("Muls")),
    ("InplaceReLU", I("ReLU")), ("InplaceRemainderTensorScalar", I("RemainderTensorScalar")),
    ("InplaceRemainderTensorTensor", I("RemainderTensorTensor")), ("InplaceScatterAdd", I("ScatterAddExt")),
    ("InplaceScatterSrc", I("Scatter")), ("InplaceScatterValue", I("ScatterValue")), ("InplaceSiLU", I("SiLU")),
    ("InplaceSigmoid", I("Sigmoid")), ("InplaceSign", I("Sign")), ("InplaceSubExt", I("SubExt")),
    ("InplaceSubScalar", I("SubExt")), ("InplaceTanh", I("Tanh")), ("InplaceThreshold", I("Threshold")),
    ("InplaceZero", I("ZerosLike")),
];
