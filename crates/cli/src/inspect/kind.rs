//! Kinds of operators, for colours.

use mslite_mindir::{Callee, Node, NodeKind};
use serde::Serialize;

/// What sort of thing an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Exchange with other ranks.
    Collective,
    /// Products of matrices, convolutions, attention, recurrent cells.
    Contraction,
    /// Normalisation, pooling, reductions, softmax.
    Reduction,
    /// Arithmetic and activations, element by element.
    Elementwise,
    /// Shape, layout, selection, tuples.
    Movement,
    /// Writes to parameters.
    State,
    /// Calls, branches, loops.
    Control,
    /// Order of effects only.
    Order,
    /// A constant.
    Constant,
    /// Anything else.
    Other,
}

// Parts of the names of operators; the first list with one that occurs tells the kind.

const CONTRACTIONS: &[&str] = &[
    "MatMul",
    "Matmul",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Attention",
    "Dense",
    "Einsum",
    "LSTM",
    "GRU",
    "FullConnection",
];

const REDUCTIONS: &[&str] = &[
    "Norm", "Softmax", "SoftMax", "Pool", "Reduce", "Arg", "Sum", "Mean", "Prod", "TopK", "Topk", "All",
    "Any", "Max", "Min",
];

const MOVEMENTS: &[&str] = &[
    "Arange",
    "Broadcast",
    "Cast",
    "Concat",
    "Crop",
    "DType",
    "DepthToSpace",
    "Diag",
    "Embedding",
    "ExpandDims",
    "Eye",
    "Flatten",
    "Gather",
    "Identity",
    "Im2Col",
    "List",
    "Meshgrid",
    "OneHot",
    "Ones",
    "Pad",
    "Range",
    "Rank",
    "Reshape",
    "Resize",
    "Reverse",
    "Roll",
    "Select",
    "Shape",
    "Slice",
    "Sort",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Stack",
    "TensorMove",
    "TensorScatter",
    "TensorToScalar",
    "Tile",
    "ToTensor",
    "Transpose",
    "Tril",
    "Tuple",
    "Unstack",
    "Upsample",
    "View",
    "Zeros",
    "make_list",
];

const STATES: &[&str] = &["Assign", "Scatter", "Update", "Cache", "Print", "Push", "Pull"];

const CONTROLS: &[&str] = &["Switch", "Partial", "Return", "switch", "partial", "Call"];

const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Acos",
    "ACos",
    "Activation",
    "Add",
    "Asin",
    "Atan",
    "Bias",
    "Bitwise",
    "Ceil",
    "Clamp",
    "Clip",
    "Cos",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "FastG",
    "Floor",
    "Ge",
    "Greater",
    "HSig",
    "HSwish",
    "Hard",
    "Hypot",
    "IsFinite",
    "IsInf",
    "IsNan",
    "LeakyReLU",
    "LeakyRelu",
    "Less",
    "Log",
    "Masked",
    "Mish",
    "Mod",
    "Mul",
    "NanToNum",
    "Neg",
    "Not",
    "PReLU",
    "Pow",
    "ReLU",
    "Real",
    "Recip",
    "Relu",
    "Remainder",
    "Round",
    "Rsqrt",
    "Scale",
    "SeLU",
    "SiLU",
    "Sig",
    "Sign",
    "Sin",
    "Soft",
    "Sqr",
    "Sqrt",
    "Square",
    "Sub",
    "Swi",
    "Tan",
    "Xor",
];

/// Operators whose name would say something else.
const EXCEPTIONS: &[(&str, Kind)] = &[
    ("AddN", Kind::Elementwise),
    ("Fill", Kind::Movement),
    ("Maximum", Kind::Elementwise),
    ("Minimum", Kind::Elementwise),
    ("Scatter", Kind::Movement),
    ("ScatterNd", Kind::Movement),
    ("TensorScatterElements", Kind::Movement),
    ("TensorScatterUpdate", Kind::Movement),
];

/// The kind of a node; `is_order` says whether it only orders effects.
pub(crate) fn kind(node: &Node, is_order: bool) -> Kind {
    match &node.kind {
        _ if is_order => Kind::Order,
        NodeKind::Constant(_) => Kind::Constant,
        NodeKind::Call(Callee::Primitive(primitive)) if primitive.is_collective() => Kind::Collective,
        NodeKind::Call(Callee::Primitive(primitive)) => of_operator(&primitive.op_type),
        NodeKind::Call(_) => Kind::Control,
    }
}

fn of_operator(op: &str) -> Kind {
    if let Some((_, kind)) = EXCEPTIONS.iter().find(|(name, _)| *name == op) {
        return *kind;
    }
    let lists = [
        (STATES, Kind::State),
        (CONTROLS, Kind::Control),
        (CONTRACTIONS, Kind::Contraction),
        (MOVEMENTS, Kind::Movement),
        (REDUCTIONS, Kind::Reduction),
    ];
    let found = lists.iter().find(|(words, _)| words.iter().any(|word| op.contains(word)));
    match found {
        Some((_, kind)) => *kind,
        None if is_elementwise(op) => Kind::Elementwise,
        None => Kind::Other,
    }
}

/// Whether the name starts as those of arithmetic and activations do.
fn is_elementwise(op: &str) -> bool {
    ELEMENTWISE.iter().any(|word| op.starts_with(word)) || ["LogicalAnd", "LogicalOr"].contains(&op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_common_operators() {
        let expected = [
            (Kind::Contraction, "MatMul BatchMatMul MatMulExt Conv2D FlashAttentionScore Conv2DFusion LSTM"),
            (Kind::Reduction, "LayerNorm BatchNorm Softmax MaxPool ReduceMean ArgMaxWithValue RmsNorm"),
            (Kind::Elementwise, "Add Muls GeLU ReLU SiLU Tanh Minimum Equal LogicalAnd BiasAdd Rsqrt Sub"),
            (Kind::Movement, "Reshape Transpose Concat Gather StridedSlice TupleGetItem MakeTuple Cast"),
            (Kind::State, "Assign AssignAdd ScatterUpdate Print"),
            (Kind::Control, "Switch Partial"),
            (Kind::Other, "SomethingNew"),
        ];
        for (kind, operators) in expected {
            for operator in operators.split(' ') {
                assert_eq!(of_operator(operator), kind, "{operator}");
            }
        }
    }
}
