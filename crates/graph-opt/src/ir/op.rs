//! The closed core of operations, and `Opaque` for everything else.
//!
//! An operation is data: its attributes are fully normalised (axes counted from 0, masks and defaults resolved,
//! optional arguments made explicit), and every operand is a tensor. Extents may be symbolic.
//!
//! Floats of 16 bits are computed in f32 and rounded once, bf16 always. For f16, functions that are made of several
//! elementary steps may round after each of them, and MindSpore's do: with `r` for rounding,
//! [`LayerNorm`](Op::LayerNorm) is `r(r(q * gamma) + beta)` of `q = r(r(x - r(mean)) / r(deviation))`,
//! [`Softmax`](Op::Softmax) `r(e / r(sum))` of `e = r(exp(r(x - max)))`, [`Sigmoid`](Unary::Sigmoid)
//! `r(1 / r(1 + r(exp(-x))))`, [`Silu`](Unary::Silu) `r(x * sigmoid(x))`, and [`Rsqrt`](Unary::Rsqrt)
//! `r(1 / r(sqrt(x)))`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mslite_collective::{CollectiveKind, CollectiveOp};
use mslite_tensor::{DType, Dim, Symbol, TensorSpec};

use super::Graph;

/// An operation of a [`Node`](super::Node).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Element-wise function of one tensor: `(x) -> y`, same shape.
    Unary(Unary),
    /// Element-wise function of two tensors of one type, with numpy broadcasting: `(x, y) -> z`.
    Binary(Binary),
    /// `(condition: bool, x, y) -> z`: x where the condition holds, else y; all three broadcast.
    Select,
    /// Conversion of every element: `(x) -> y`. Float to integer truncates, anything to bool is `x != 0`, and of a
    /// complex number the real part stays.
    Cast(DType),
    /// Reduction over axes: `(x) -> y`.
    Reduce(Reduce),
    /// Index of the extreme element along an axis, the first of equals: `(x) -> index`.
    ArgReduce(ArgReduce),
    /// Running sum or product along an axis: `(x) -> y`.
    Cumulative(Cumulative),
    /// `exp(x - max) / sum` along an axis, or its logarithm: `(x) -> y`.
    Softmax(Softmax),
    /// `(x)` or `(x, gamma, beta) -> (x - mean) / sqrt(variance + epsilon) * gamma + beta`, statistics over the
    /// axes from `axis` on; gamma and beta broadcast against x.
    LayerNorm(Norm),
    /// `(x, gamma) -> x / sqrt(mean(x * x) + epsilon) * gamma`, the mean over the axes from `axis` on; gamma
    /// broadcasts against x.
    RmsNorm(Norm),
    /// Sums, and their normalisation: `(x, addends..., gamma, beta)` or `(x, addends..., gamma)` to y, or to y and the
    /// sum.
    AddNorm(AddNorm),
    /// `f(a) * b` of the halves a and b of the last axis: `(x) -> y`. `f(a)` is rounded to the type of x.
    Gated(Unary),
    /// `x * cos + rotated(x) * sin`, where the rotated x has the negated second half of the last axis before the
    /// first half: `(x, cos, sin) -> y`. cos and sin broadcast against x, the last axis excepted; where that of x is
    /// a multiple of theirs, each of the pieces behind each other is rotated by itself.
    Rope,
    /// For each head `softmax(scale * query @ key^T + mask) @ value`: `(query, key, value)` or
    /// `(query, key, value, mask) -> y`.
    Attention(Attention),
    /// Matrix product of the last two axes, the leading ones broadcast: `(a, b)` or `(a, b, bias) -> y`.
    /// Operands of rank 1 get an axis as in numpy.
    MatMul(MatMul),
    /// 2-D convolution, NCHW: `(x, weight)` or `(x, weight, bias) -> y`; weight is [out, in / groups, kh, kw].
    Conv2d(Conv2d),
    /// 2-D pooling, NCHW: `(x) -> y`.
    Pool2d(Pool2d),
    /// The same elements in row-major order behind another shape: `(x) -> y`.
    Reshape(Vec<Dim>),
    /// Axis `i` of the result is axis `perm[i]` of the operand: `(x) -> y`.
    Transpose(Vec<usize>),
    /// numpy broadcasting to a shape: `(x) -> y`.
    Broadcast(Vec<Dim>),
    /// Joins tensors along an axis: `(x...) -> y`.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Every `step`-th element along each axis: `(x) -> y`.
    Slice(Slice),
    /// Adds elements around a tensor: `(x, value) -> y` for `PadMode::Constant` (value is rank 0), else `(x)`.
    Pad(Pad),
    /// Rows of `x` along an axis, chosen by integers: `(x, indices) -> y`. The result's shape is that of x with
    /// the axis replaced by the axes of indices from `batch_dims` on. A negative index counts from the end; one
    /// outside is an error.
    Gather(Gather),
    /// `y[i][j] = x[index[i][j]][j]` for axis 0, likewise for others: `(x, index) -> y` of the index's shape.
    GatherElements {
        /// The axis.
        axis: usize,
    },
    /// The last axis of `indices` points into the first axes of `x`: `(x, indices) -> y`.
    GatherNd,
    /// A copy of `x` in which the places that `indices` names (as in `GatherNd`) are written, in order:
    /// `(x, indices, updates) -> y`.
    ScatterNd(ScatterKind),
    /// `(indices, on, off) -> y`: a new axis of `depth`, `on` at the index and `off` elsewhere.
    OneHot {
        /// Extent of the new axis.
        depth: Dim,
        /// Where it is inserted in the result.
        axis: usize,
    },
    /// The k largest or smallest along an axis: `(x) -> (values, indices: i32)`, sorted; the lower index wins
    /// among equals.
    TopK(TopK),
    /// Zeroes what lies above (`upper: false`) or below (`upper: true`) a diagonal of the last two axes.
    Triangle(Triangle),
    /// Extents as an i64 vector: `() -> y`. What is left of shape arithmetic that needs a tensor.
    Extents(Vec<Dim>),
    /// Elements of an i64 vector as extents: `(x) -> ()`. From here on the symbols have these values. They are bound
    /// once in a graph, and again in each turn of a loop; what they are is known when the run has come here.
    Bind(Vec<Symbol>),
    /// Random numbers, and the state from which the next ones follow: `(state) -> (values, state)`; integers are
    /// `(state, low: i32, high: i32) -> (values, state)`, from low to before high.
    Random(Random),
    /// Exchange with other ranks.
    Collective(Collective),
    /// One of two graphs, by a condition of rank 0: `(condition: bool, inputs of then..., inputs of otherwise...)`
    /// to the outputs of the graph that runs.
    If(If),
    /// A graph, run again while it says so: `(carried..., others...)` to what it gives in the last turn.
    Loop(Loop),
    /// A primitive that is carried verbatim for a backend that knows it.
    Opaque(Opaque),
}

/// Element-wise functions of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the mathematical functions")]
pub enum Unary {
    Abs,
    Neg,
    Sign,
    Exp,
    Expm1,
    Log,
    Log1p,
    Sqrt,
    Rsqrt,
    Square,
    Reciprocal,
    Floor,
    Ceil,
    /// Half to even.
    Round,
    Trunc,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Erf,
    Erfc,
    Sigmoid,
    Relu,
    Relu6,
    /// `x * (1 + erf(x / sqrt 2)) / 2`
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`
    GeluTanh,
    /// `x * sigmoid(1.702 * x)`
    FastGelu,
    /// `x * sigmoid(x)`
    Silu,
    /// `x * tanh(softplus(x))`
    Mish,
    /// `x * relu6(x + 3) / 6`
    HardSwish,
    /// `clip(x / 6 + 0.5, 0, 1)`
    HardSigmoid,
    /// `log(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x` if positive, else `alpha * (exp(x) - 1)`
    Elu {
        alpha: f64,
    },
    /// `x` if positive, else `alpha * x`
    LeakyRelu {
        alpha: f64,
    },
    /// `min(max(x, low), high)`
    Clip {
        low: f64,
        high: f64,
    },
    /// bool or integer
    Not,
    IsNan,
    IsInf,
    IsFinite,
    /// Of complex numbers: `a + b i` becomes `b + a i`.
    SwapParts,
}

impl Unary {
    /// Whether the result is bool whatever the operand is.
    pub fn is_predicate(self) -> bool {
        matches!(self, Unary::IsNan | Unary::IsInf | Unary::IsFinite)
    }
}

/// Element-wise functions of two tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the mathematical functions")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// Floating-point only; integers are cast before.
    Div,
    /// Quotient rounded towards negative infinity.
    FloorDiv,
    /// Quotient rounded towards zero.
    TruncDiv,
    /// `x - floor(x / y) * y`
    FloorMod,
    /// `x - trunc(x / y) * y`
    TruncMod,
    Pow,
    Maximum,
    Minimum,
    /// `(x - y)^2`
    SquaredDifference,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// bool: logical, integers: bitwise
    And,
    Or,
    Xor,
}

impl Binary {
    /// Whether the result is bool whatever the operands are.
    pub fn is_comparison(self) -> bool {
        use Binary::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Whether the operands may be swapped.
    pub fn is_commutative(self) -> bool {
        use Binary::{Add, And, Equal, Maximum, Minimum, Mul, NotEqual, Or, SquaredDifference, Xor};
        matches!(self, Add | Mul | Maximum | Minimum | SquaredDifference | Equal | NotEqual | And | Or | Xor)
    }
}

/// How elements are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the mathematical functions")]
pub enum ReduceKind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    /// bool: every element holds
    All,
    /// bool: some element holds
    Any,
}

/// Reduction over axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// How elements are combined. Floats of 16 bits are accumulated in f32, integers wrap.
    pub kind: ReduceKind,
    /// The axes, sorted, without repeats.
    pub axes: Vec<usize>,
    /// Whether reduced axes stay, with extent 1.
    pub keep_dims: bool,
}

/// Index of the extreme element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgReduce {
    /// The largest instead of the smallest.
    pub largest: bool,
    /// The axis.
    pub axis: usize,
    /// Whether the reduced axis stays, with extent 1.
    pub keep_dims: bool,
    /// Type of the index: i32 or i64.
    pub dtype: DType,
}

/// Running sum or product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cumulative {
    /// The product instead of the sum.
    pub product: bool,
    /// The axis.
    pub axis: usize,
    /// Leave out the element itself.
    pub exclusive: bool,
    /// Run from the end.
    pub reverse: bool,
}

/// Softmax along an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
    /// Its logarithm instead.
    pub log: bool,
}

/// Normalisation over trailing axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// First normalised axis.
    pub axis: usize,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
}

/// A sum of x and one or two addends, which broadcast against x, and its normalisation over trailing axes: that of
/// [`Op::LayerNorm`] if it is centred, else that of [`Op::RmsNorm`]. The sum is rounded after each addition. An x in f32
/// is rounded to the type of the others first.
#[derive(Debug, Clone, PartialEq)]
pub struct AddNorm {
    /// First normalised axis.
    pub axis: usize,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
    /// Whether the mean is subtracted; beta is the last operand then.
    pub centred: bool,
    /// Whether the sum is a result, too.
    pub sum: bool,
}

/// Attention. Query, key, value and result have 4 axes: batch, then heads and length, width last; or 3, where heads
/// are packed. Several heads in a row of the query may share one of key and value. Scores are computed in f32 (f64 for f64), products of f16
/// rounded to f16, and weights rounded to the type of the value.
///
/// The mask broadcasts against [batch, heads, length of the query, length of the key]. Its type is the scores', and
/// it is added to them; or bool, and hides scores (the lowest f32 takes their place) where it is true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Which axis the heads of query, key, value and result are: 1 or 2. The length is the other.
    pub heads: [usize; 4],
    /// Factor of the scores.
    pub scale: f64,
    /// Which of query, key, value and result have packed heads. Their axis of heads is 2.
    pub packed: [Option<Packed>; 4],
}

/// Heads behind each other in the last axis of a tensor with 3 axes: batch, length, columns. The result has no other
/// columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Column of the first head.
    pub start: usize,
    /// Number of heads.
    pub heads: usize,
    /// Columns of a head.
    pub width: usize,
}

impl fmt::Display for Packed {
    /// `heads x width + start`, such as `4x24+96`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.heads, self.width)?;
        if self.start > 0 { write!(f, "+{}", self.start) } else { Ok(()) }
    }
}

/// Matrix product.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MatMul {
    /// The last two axes of `a` are swapped before.
    pub transpose_a: bool,
    /// The last two axes of `b` are swapped before.
    pub transpose_b: bool,
    /// Applied to the result, after the bias. The bias has rank 1 (or the rank of the result's last axis
    /// broadcast) and is the third operand if there is one.
    pub activation: Option<Unary>,
    /// The result of 16-bit floats is f32: the sums of products as they are, not rounded. Without bias and
    /// activation.
    pub wide: bool,
}

/// 2-D convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv2d {
    /// Step along height and width.
    pub strides: [usize; 2],
    /// Zeros added: top, bottom, left, right.
    pub padding: Padding2d,
    /// Distance of kernel elements along height and width.
    pub dilations: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
    /// Applied to the result, after the bias.
    pub activation: Option<Unary>,
}

/// Padding of a 2-D window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding2d {
    /// Top, bottom, left, right.
    Explicit([usize; 4]),
    /// So much that the result has `ceil(input / stride)` elements, the odd one at the end.
    Same,
}

/// 2-D pooling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool2d {
    /// The mean instead of the maximum.
    pub average: bool,
    /// Window: height and width.
    pub kernel: [usize; 2],
    /// Step along height and width.
    pub strides: [usize; 2],
    /// Padding.
    pub padding: Padding2d,
    /// Whether a last window that sticks out is kept.
    pub ceil_mode: bool,
    /// Whether padded cells count in the mean's divisor.
    pub count_padding: bool,
}

/// Strided part of a tensor: element `i` of the result is element `start + i * step`, along each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// First element, per axis.
    pub starts: Vec<Dim>,
    /// Number of elements, per axis.
    pub sizes: Vec<Dim>,
    /// Distance, per axis; may be negative, not 0.
    pub steps: Vec<i64>,
}

/// Elements added around a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pad {
    /// Added before, per axis; negative cuts.
    pub low: Vec<i64>,
    /// Added after, per axis; negative cuts.
    pub high: Vec<i64>,
    /// What is added.
    pub mode: PadMode,
}

/// What padding adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PadMode {
    /// The second operand.
    Constant,
    /// Mirrored without the edge.
    Reflect,
    /// Mirrored with the edge.
    Symmetric,
    /// The edge repeated.
    Edge,
}

/// Rows chosen by integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// Axis of x that the indices point into.
    pub axis: usize,
    /// Leading axes that x and indices share.
    pub batch_dims: usize,
}

/// How scattered elements meet what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScatterKind {
    /// The last one stays.
    Update,
    /// They are added.
    Add,
    /// They are multiplied.
    Mul,
    /// The largest stays.
    Max,
    /// The smallest stays.
    Min,
}

/// The largest or smallest elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopK {
    /// How many.
    pub k: Dim,
    /// Along which axis.
    pub axis: usize,
    /// The largest instead of the smallest.
    pub largest: bool,
}

/// A triangle of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triangle {
    /// Keep the upper triangle instead of the lower.
    pub upper: bool,
    /// Which diagonal bounds it: 0 the main one, positive above it.
    pub diagonal: i64,
}

/// Random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    /// How they are distributed, and from which engine they come.
    pub distribution: Distribution,
    /// Extents of the values.
    pub dims: Vec<Dim>,
}

/// Distributions of random numbers, as the C++ standard library of GCC draws them from its engines. States are u32:
/// one word of `minstd_rand0`; 624 words of `mt19937` and the position in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Distribution {
    /// Around 0 with variance 1, f32, by the polar method from `minstd_rand0`.
    Normal,
    /// From 0 to before 1, f32, from `minstd_rand0`.
    Uniform,
    /// From 0 to before 1, f64 of two words of `mt19937` rounded to f32.
    FineUniform,
    /// Integers, i32, from `mt19937`.
    Integers,
}

impl Distribution {
    /// Words of the state.
    pub fn words(self) -> usize {
        match self {
            Distribution::Normal | Distribution::Uniform => 1,
            Distribution::FineUniform | Distribution::Integers => 625,
        }
    }

    /// Element type of the values.
    pub fn dtype(self) -> DType {
        if self == Distribution::Integers { DType::I32 } else { DType::F32 }
    }
}

/// Exchange with other ranks. Operands and results by kind: all kinds but these `(x) -> y`; `Send`
/// `(x) -> ()`, `Receive` `() -> y`, `Barrier` `() -> ()`. Blocks lie along axis 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Collective {
    /// Kind and group.
    pub op: CollectiveOp,
    /// Size of the group, as the model states it; needed where it changes the shape.
    pub size: Option<usize>,
    /// World ranks of the group, where the model states them (MindSpore's parallel front end does).
    pub ranks: Option<Vec<usize>>,
    /// What a `Receive` gives.
    pub receives: Option<TensorSpec>,
}

impl Collective {
    /// Number of operands and results.
    pub fn arity(&self) -> (usize, usize) {
        match self.op.kind {
            CollectiveKind::Barrier => (0, 0),
            CollectiveKind::Send { .. } => (1, 0),
            CollectiveKind::Receive { .. } => (0, 1),
            _ => (1, 1),
        }
    }
}

/// One of two graphs. They have no states, and outputs of the same types.
#[derive(Debug, Clone, PartialEq)]
pub struct If {
    /// Runs where the condition holds.
    pub then: Arc<Graph>,
    /// Runs where it does not.
    pub otherwise: Arc<Graph>,
}

/// A graph that runs at least once. It has no states.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// Its first output is a bool of rank 0: whether it runs again, with its next outputs in place of the carried
    /// inputs. The remaining outputs are the results.
    pub body: Arc<Graph>,
    /// Number of inputs that change from turn to turn; they come first.
    pub carried: usize,
}

/// A primitive that the core does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Opaque {
    /// Its MindIR name.
    pub primitive: Arc<str>,
    /// Its attributes; arguments that are not tensors appear as `argN`, N counted from 0.
    pub attributes: BTreeMap<String, Attribute>,
    /// Types of its results, as the model states them.
    pub results: Vec<TensorSpec>,
    /// Whether it must run even when nobody uses its results, in order with other effects.
    pub effect: bool,
}

/// Attribute of an opaque primitive.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// Nothing given.
    None,
    /// Truth value.
    Bool(bool),
    /// Integer.
    Int(i64),
    /// Float.
    Float(f64),
    /// Text.
    Text(String),
    /// Element type.
    DType(DType),
    /// Sequence.
    List(Vec<Attribute>),
}

impl Op {
    /// Name in the text form and in messages.
    pub fn name(&self) -> &str {
        match self {
            Op::Unary(f) => f.name(),
            Op::Binary(f) => f.name(),
            Op::Select => "select",
            Op::Cast(_) => "cast",
            Op::Reduce(_) => "reduce",
            Op::ArgReduce(_) => "arg_reduce",
            Op::Cumulative(_) => "cumulative",
            Op::Softmax(_) => "softmax",
            Op::LayerNorm(_) => "layer_norm",
            Op::RmsNorm(_) => "rms_norm",
            Op::AddNorm(_) => "add_norm",
            Op::Gated(_) => "gated",
            Op::Rope => "rope",
            Op::Attention(_) => "attention",
            Op::MatMul(_) => "matmul",
            Op::Conv2d(_) => "conv2d",
            Op::Pool2d(_) => "pool2d",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Broadcast(_) => "broadcast",
            Op::Concat { .. } => "concat",
            Op::Slice(_) => "slice",
            Op::Pad(_) => "pad",
            Op::Gather(_) => "gather",
            Op::GatherElements { .. } => "gather_elements",
            Op::GatherNd => "gather_nd",
            Op::ScatterNd(_) => "scatter_nd",
            Op::OneHot { .. } => "one_hot",
            Op::TopK(_) => "top_k",
            Op::Triangle(_) => "triangle",
            Op::Extents(_) => "extents",
            Op::Bind(_) => "bind",
            Op::Random(_) => "random",
            Op::Collective(_) => "collective",
            Op::If(_) => "if",
            Op::Loop(_) => "loop",
            Op::Opaque(opaque) => &opaque.primitive,
        }
    }

    /// Whether the node must stay, once, and in order with other nodes of which this holds.
    pub fn has_effect(&self) -> bool {
        match self {
            Op::Collective(_) | Op::Bind(_) => true,
            Op::Opaque(opaque) => opaque.effect,
            _ => self.bodies().any(|body| body.nodes().any(|(_, node)| node.op.has_effect())),
        }
    }

    /// The extents in its attributes, those of graphs inside included.
    pub fn extents(&self) -> Box<dyn Iterator<Item = &Dim> + '_> {
        fn of(spec: &TensorSpec) -> &[Dim] {
            spec.shape.dims().unwrap_or_default()
        }
        match self {
            Op::Reshape(dims) | Op::Broadcast(dims) | Op::Extents(dims) => Box::new(dims.iter()),
            Op::Slice(slice) => Box::new(slice.starts.iter().chain(&slice.sizes)),
            Op::OneHot { depth: dim, .. } | Op::TopK(TopK { k: dim, .. }) => Box::new(std::iter::once(dim)),
            Op::Collective(collective) => Box::new(collective.receives.iter().flat_map(of)),
            Op::Opaque(opaque) => Box::new(opaque.results.iter().flat_map(of)),
            _ => Box::new(
                self.bodies().flat_map(|body| body.nodes_within()).flat_map(|(_, node)| node.op.extents()),
            ),
        }
    }

    /// The graphs inside.
    pub fn bodies(&self) -> impl Iterator<Item = &Arc<Graph>> {
        let bodies = match self {
            Op::If(branch) => [Some(&branch.then), Some(&branch.otherwise)],
            Op::Loop(Loop { body, .. }) => [Some(body), None],
            _ => [None, None],
        };
        bodies.into_iter().flatten()
    }

    /// The same operation with other graphs inside.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn try_map_bodies<E>(
        &self,
        mut change: impl FnMut(&Arc<Graph>) -> Result<Arc<Graph>, E>,
    ) -> Result<Op, E> {
        Ok(match self {
            Op::If(If { then, otherwise }) => {
                Op::If(If { then: change(then)?, otherwise: change(otherwise)? })
            }
            Op::Loop(Loop { body, carried }) => Op::Loop(Loop { body: change(body)?, carried: *carried }),
            other => other.clone(),
        })
    }
}

macro_rules! names {
    ($ty:ident { $($variant:ident $name:literal),* $(,)? } $($rest:tt)*) => {
        impl $ty {
            /// The functions without parameters.
            pub const PLAIN: &'static [$ty] = &[$($ty::$variant),*];

            /// Name in the text form.
            pub fn name(self) -> &'static str {
                match self {
                    $($ty::$variant => $name,)*
                    $($rest)*
                }
            }
        }
    };
}

names!(Unary {
    Abs "abs", Neg "neg", Sign "sign", Exp "exp", Expm1 "expm1", Log "log", Log1p "log1p", Sqrt "sqrt",
    Rsqrt "rsqrt", Square "square", Reciprocal "reciprocal", Floor "floor", Ceil "ceil", Round "round",
    Trunc "trunc", Sin "sin", Cos "cos", Tan "tan", Asin "asin", Acos "acos", Atan "atan", Sinh "sinh",
    Cosh "cosh", Tanh "tanh", Erf "erf", Erfc "erfc", Sigmoid "sigmoid", Relu "relu", Relu6 "relu6",
    Gelu "gelu", GeluTanh "gelu_tanh", FastGelu "fast_gelu", Silu "silu", Mish "mish",
    HardSwish "hard_swish", HardSigmoid "hard_sigmoid", Softplus "softplus", Softsign "softsign",
    Not "not", IsNan "is_nan", IsInf "is_inf", IsFinite "is_finite",
    SwapParts "swap_parts",
}
    Unary::Elu { .. } => "elu",
    Unary::LeakyRelu { .. } => "leaky_relu",
    Unary::Clip { .. } => "clip",
);

names!(Binary {
    Add "add", Sub "sub", Mul "mul", Div "div", FloorDiv "floor_div", TruncDiv "trunc_div",
    FloorMod "floor_mod", TruncMod "trunc_mod", Pow "pow", Maximum "maximum", Minimum "minimum",
    SquaredDifference "squared_difference", Atan2 "atan2", Equal "equal", NotEqual "not_equal",
    Less "less", LessEqual "less_equal", Greater "greater", GreaterEqual "greater_equal", And "and",
    Or "or", Xor "xor",
});

names!(Distribution {
    Normal "normal", Uniform "uniform", FineUniform "fine_uniform", Integers "integers",
});

names!(ReduceKind {
    Sum "sum", Mean "mean", Max "max", Min "min", Prod "prod", All "all", Any "any",
});
