use mslite_tensor::{DType, Dim, Tensor, bf16, f16};

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{Binary, Op, Unary};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Drops operations that give back what they take.
///
/// - neutral operands: `x + -0.0`, `x - 0.0`, `x * 1`, `x / 1`, `x ^ 1`, `x and true`, integers alike
/// - equal operands: `max(x, x)`, `min(x, x)`, `x and x`, `x or x`
/// - functions of functions: `neg(neg x)`, `not(not x)`, `relu(relu x)`, `abs(neg x)`, rounding of integers
/// - bounds of integers: `min(relu(x), n)` is a clip, `x >= a and x < b` compares x with its clip
/// - casts to the same type, and casts by way of a type that holds every value of the first
/// - selections with a constant condition, or of one value
/// - broadcasts that change nothing, or only what a binary operation would broadcast anyway
/// - whole slices, padding by nothing, joining of one tensor, reductions of single elements
///
/// All are exact for every element, infinities and both zeros included; a NaN stays a NaN. So `x + 0.0` stays
/// (it makes -0.0 to 0.0), as do `x * 0.0`, `x - x`, `sqrt(square x)`. The sum of one element is that element.
/// Nothing fires that would change a type: a constant that broadcasts x is not neutral.
///
/// ```text
/// %2 = mul %0, %1 (all ones)   |
/// %3 = neg %2                  |
/// %4 = neg %3                  |
/// output "y" %4                |  output "y" %0
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Algebra;

impl Pass for Algebra {
    fn name(&self) -> &'static str {
        "algebra"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        rule::apply(RULES, graph, cx)
    }
}

const RULES: &[Rule] = &[
    Rule { name: "neutral_operand", rewrite: neutral_operand },
    Rule { name: "equal_operands", rewrite: equal_operands },
    Rule { name: "function_chain", rewrite: function_chain },
    Rule { name: "function_without_effect", rewrite: function_without_effect },
    Rule { name: "clip", rewrite: clip },
    Rule { name: "range", rewrite: range },
    Rule { name: "same_cast", rewrite: same_cast },
    Rule { name: "cast_chain", rewrite: cast_chain },
    Rule { name: "known_selection", rewrite: known_selection },
    Rule { name: "same_broadcast", rewrite: same_broadcast },
    Rule { name: "broadcast_chain", rewrite: broadcast_chain },
    Rule { name: "broadcast_operand", rewrite: broadcast_operand },
    Rule { name: "whole_slice", rewrite: whole_slice },
    Rule { name: "empty_pad", rewrite: empty_pad },
    Rule { name: "single_concat", rewrite: single_concat },
    Rule { name: "single_elements", rewrite: single_elements },
];

fn neutral_operand(site: &Site) -> Option<Expr> {
    let Op::Binary(f) = site.node.op else { return None };
    let neutral = neutral(f, site.result().dtype)?;
    let holds = |value: ValueId| site.constant(value).is_some_and(|tensor| neutral.fills(tensor));
    let &[x, y] = site.node.operands.as_slice() else { return None };
    match () {
        () if holds(y) => Some(x.into()),
        () if f.is_commutative() && holds(x) => Some(y.into()),
        () => None,
    }
}

fn equal_operands(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Maximum | Binary::Minimum | Binary::And | Binary::Or) = site.node.op else {
        return None;
    };
    let &[x, y] = site.node.operands.as_slice() else { return None };
    (x == y).then(|| x.into())
}

fn function_chain(site: &Site) -> Option<Expr> {
    let (outer, inner_value) = unary(site.node)?;
    let (inner, x) = unary(site.producer(inner_value)?)?;
    let dtype = site.operand(0).dtype;
    match (outer, inner) {
        (Unary::Neg, Unary::Neg) | (Unary::Not, Unary::Not) => Some(x.into()),
        _ if outer == inner && is_idempotent(outer) => Some(inner_value.into()),
        (Unary::Square, Unary::Neg) if !dtype.is_complex() => Some(Expr::node(site.node.op.clone(), [x])),
        (Unary::Abs, Unary::Neg) if dtype.is_float() || dtype.is_signed_int() => {
            Some(Expr::node(site.node.op.clone(), [x]))
        }
        _ => None,
    }
}

fn is_idempotent(f: Unary) -> bool {
    use Unary::{Abs, Ceil, Floor, Relu, Relu6, Round, Sign, Trunc};
    match f {
        Abs | Ceil | Floor | Relu | Relu6 | Round | Sign | Trunc => true,
        Unary::Clip { low, high } => low <= high,
        _ => false,
    }
}

fn function_without_effect(site: &Site) -> Option<Expr> {
    let (f, x) = unary(site.node)?;
    let dtype = site.result().dtype;
    let same = match f {
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => dtype.is_int(),
        Unary::Abs | Unary::Relu => dtype.is_unsigned_int(),
        _ => false,
    };
    same.then(|| x.into())
}

/// `min(relu(x), n)` of integers.
fn clip(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Minimum) = site.node.op else { return None };
    let &[x, y] = site.node.operands.as_slice() else { return None };
    let form = |x: ValueId, bound: ValueId| {
        let high = integer(site, bound).filter(|&n| n >= 0)?;
        let (f, x) = unary(site.sole_producer(x)?)?;
        let op = Op::Unary(Unary::Clip { low: 0.0, high: high as f64 });
        (f == Unary::Relu).then(|| Expr::node(op, [x]))
    };
    form(x, y).or_else(|| form(y, x))
}

/// `x >= a and x < b` of integers.
fn range(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::And) = site.node.op else { return None };
    let &[a, b] = site.node.operands.as_slice() else { return None };
    let form = |low: ValueId, high: ValueId| {
        let (x, low) = bound(site, low, [Binary::GreaterEqual, Binary::Greater])?;
        let (same, high) = bound(site, high, [Binary::LessEqual, Binary::Less])?;
        if x != same || low > high {
            return None;
        }
        let op = Op::Unary(Unary::Clip { low: low as f64, high: high as f64 });
        Some(Expr::node(Op::Binary(Binary::Equal), [x.into(), Expr::node(op, [x])]))
    };
    form(a, b).or_else(|| form(b, a))
}

/// The x that a value compares with an integer, and the last integer that holds; of the two comparisons the second
/// leaves out the integer itself.
fn bound(site: &Site, value: ValueId, [with, without]: [Binary; 2]) -> Option<(ValueId, i64)> {
    let node = site.sole_producer(value)?;
    let (Op::Binary(f), &[x, limit]) = (&node.op, node.operands.as_slice()) else { return None };
    let limit = integer(site, limit)?;
    match *f {
        f if f == with => Some((x, limit)),
        f if f == without && f == Binary::Less => Some((x, limit.checked_sub(1)?)),
        f if f == without => Some((x, limit.checked_add(1)?)),
        _ => None,
    }
}

/// The number that a value is known to be, if floats hold it: a constant integer of one element that broadcasts
/// nothing.
fn integer(site: &Site, value: ValueId) -> Option<i64> {
    let tensor = site.constant(value).filter(|tensor| tensor.dims().is_empty())?;
    let (number, most) = match tensor.dtype() {
        DType::I32 => (tensor.to_vec::<i32>().ok()?[0].into(), 1 << 31),
        DType::I64 => (tensor.to_vec::<i64>().ok()?[0], 1 << 53),
        _ => return None,
    };
    (number.unsigned_abs() + 1 < most).then_some(number)
}

fn same_cast(site: &Site) -> Option<Expr> {
    let Op::Cast(to) = site.node.op else { return None };
    (site.operand(0).dtype == to).then(|| site.node.operands[0].into())
}

fn cast_chain(site: &Site) -> Option<Expr> {
    let Op::Cast(last) = site.node.op else { return None };
    let inner = site.producer(site.node.operands[0])?;
    let Op::Cast(middle) = inner.op else { return None };
    let x = inner.operands[0];
    let first = site.graph.spec(x).dtype;
    // An integer out of range wraps, a float out of range does not: on the way to an integer the kind must stay.
    let same_kind = first == DType::Bool || first.is_int() == middle.is_int() || !last.is_int();
    let drops = holds_every(first, middle) && (same_kind || first == last);
    drops.then(|| if first == last { x.into() } else { Expr::node(Op::Cast(last), [x]) })
}

/// Whether each value of one type is a value of another.
fn holds_every(from: DType, to: DType) -> bool {
    let (mantissa, exponent) = match to {
        DType::F16 => (11, 5),
        DType::BF16 => (8, 8),
        DType::F32 => (24, 8),
        DType::F64 => (53, 11),
        _ => (0, 0),
    };
    match from {
        _ if from == to => true,
        DType::Bool => !to.is_complex(),
        DType::F16 => matches!(to, DType::F32 | DType::F64),
        DType::BF16 => matches!(to, DType::F32 | DType::F64),
        DType::F32 => to == DType::F64,
        _ if from.is_int() && to.is_float() => {
            let bits = 8 * from.size() - usize::from(from.is_signed_int());
            bits <= mantissa && (bits < 16 || exponent > 5)
        }
        _ if from.is_unsigned_int() => to.is_int() && to.size() > from.size(),
        _ => from.is_signed_int() && to.is_signed_int() && to.size() > from.size(),
    }
}

fn known_selection(site: &Site) -> Option<Expr> {
    let (Op::Select, &[condition, x, y]) = (&site.node.op, site.node.operands.as_slice()) else {
        return None;
    };
    let known = site.constant(condition);
    match () {
        () if x == y => Some(x.into()),
        () if known.is_some_and(|tensor| Number::One.fills(tensor)) => Some(x.into()),
        () if known.is_some_and(|tensor| Number::Zero.fills(tensor)) => Some(y.into()),
        () => None,
    }
}

fn same_broadcast(site: &Site) -> Option<Expr> {
    let Op::Broadcast(_) = site.node.op else { return None };
    Some(site.node.operands[0].into())
}

fn broadcast_chain(site: &Site) -> Option<Expr> {
    let Op::Broadcast(_) = site.node.op else { return None };
    let inner = site.producer(site.node.operands[0])?;
    let Op::Broadcast(_) = inner.op else { return None };
    Some(Expr::node(site.node.op.clone(), [inner.operands[0]]))
}

fn broadcast_operand(site: &Site) -> Option<Expr> {
    let (Op::Binary(_) | Op::Select) = site.node.op else { return None };
    let direct = |n: usize| {
        let producer = site.producer(site.node.operands[n])?;
        let Op::Broadcast(_) = producer.op else { return None };
        let mut operands = site.node.operands.clone();
        operands[n] = producer.operands[0];
        let specs = site.graph.result_specs(&site.node.op, &operands, &site.node.origin).ok()?;
        (specs.first() == Some(site.result())).then(|| Expr::node(site.node.op.clone(), operands))
    };
    (0..site.node.operands.len()).find_map(direct)
}

fn whole_slice(site: &Site) -> Option<Expr> {
    let Op::Slice(slice) = &site.node.op else { return None };
    let whole =
        slice.starts.iter().all(|start| *start == Dim::from(0)) && slice.steps.iter().all(|&n| n == 1);
    whole.then(|| site.node.operands[0].into())
}

fn empty_pad(site: &Site) -> Option<Expr> {
    let Op::Pad(pad) = &site.node.op else { return None };
    let empty = pad.low.iter().chain(&pad.high).all(|&n| n == 0);
    empty.then(|| site.node.operands[0].into())
}

fn single_concat(site: &Site) -> Option<Expr> {
    match (&site.node.op, site.node.operands.as_slice()) {
        (Op::Concat { .. }, &[x]) => Some(x.into()),
        _ => None,
    }
}

fn single_elements(site: &Site) -> Option<Expr> {
    let Op::Reduce(reduce) = &site.node.op else { return None };
    let x = site.node.operands[0];
    let dims = site.dims(x)?;
    let single = reduce.axes.iter().all(|&axis| dims[axis] == Dim::from(1));
    let result = site.result().shape.dims()?;
    match single {
        true if result == dims => Some(x.into()),
        true => Some(Expr::node(Op::Reshape(result.to_vec()), [x])),
        false => None,
    }
}

fn unary(node: &Node) -> Option<(Unary, ValueId)> {
    match node.op {
        Op::Unary(f) => Some((f, node.operands[0])),
        _ => None,
    }
}

/// What a binary operation leaves as it is when it stands on the right.
fn neutral(f: Binary, dtype: DType) -> Option<Number> {
    let (float, int) = (dtype.is_float(), dtype.is_int());
    match f {
        Binary::Add if float => Some(Number::NegativeZero),
        Binary::Add if int => Some(Number::Zero),
        Binary::Sub if float || int => Some(Number::Zero),
        Binary::Mul | Binary::Pow if float || int => Some(Number::One),
        Binary::Div if float => Some(Number::One),
        Binary::FloorDiv | Binary::TruncDiv if int => Some(Number::One),
        Binary::And if dtype == DType::Bool => Some(Number::One),
        Binary::And if int => Some(Number::AllBits),
        Binary::Or | Binary::Xor if int || dtype == DType::Bool => Some(Number::Zero),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Zero,
    NegativeZero,
    One,
    AllBits,
}

impl Number {
    /// Whether a tensor has elements, and each of them is this number, to the bit.
    fn fills(self, tensor: &Tensor) -> bool {
        let dtype = tensor.dtype();
        let size = dtype.size();
        let element = match self {
            Number::Zero => Some(vec![0; size]),
            Number::AllBits => Some(vec![u8::MAX; size]),
            Number::NegativeZero => float_bits(dtype, -0.0),
            Number::One => float_bits(dtype, 1.0).or_else(|| int_one(dtype)),
        };
        let Some(element) = element else { return false };
        let bytes = tensor.bytes();
        !bytes.is_empty() && bytes.chunks_exact(size).all(|chunk| chunk == element)
    }
}

/// The bytes of a small number in native order.
fn float_bits(dtype: DType, number: f32) -> Option<Vec<u8>> {
    match dtype {
        DType::F16 => Some(f16::from_f32(number).to_ne_bytes().to_vec()),
        DType::BF16 => Some(bf16::from_f32(number).to_ne_bytes().to_vec()),
        DType::F32 => Some(number.to_ne_bytes().to_vec()),
        DType::F64 => Some(f64::from(number).to_ne_bytes().to_vec()),
        _ => None,
    }
}

/// The bytes of 1, or of `true`, in native order.
fn int_one(dtype: DType) -> Option<Vec<u8>> {
    match dtype.size() {
        1 => Some(vec![1]),
        2 => Some(1u16.to_ne_bytes().to_vec()),
        4 => Some(1u32.to_ne_bytes().to_vec()),
        8 if !dtype.is_complex() => Some(1u64.to_ne_bytes().to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart_to_the_bit() {
        let zeros = Tensor::from_vec(vec![0.0f32, 0.0], &[2]).unwrap();
        let mixed = Tensor::from_vec(vec![0.0f32, -0.0], &[2]).unwrap();
        assert!(Number::Zero.fills(&zeros) && !Number::NegativeZero.fills(&zeros));
        assert!(!Number::Zero.fills(&mixed) && !Number::NegativeZero.fills(&mixed));
        assert!(Number::AllBits.fills(&Tensor::scalar(-1i16)));
        assert!(Number::One.fills(&Tensor::scalar(bf16::ONE)));
        assert!(!Number::One.fills(&Tensor::zeros(DType::F32, &[0]).unwrap()));
    }

    #[test]
    fn types_that_hold_others() {
        let pairs = |to: DType| DType::ALL.into_iter().filter(move |&from| holds_every(from, to));
        let names = |to: DType| pairs(to).map(|d| d.name()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(DType::F16), "bool i8 u8 f16");
        assert_eq!(names(DType::BF16), "bool i8 u8 bf16");
        assert_eq!(names(DType::F32), "bool i8 i16 u8 u16 f16 bf16 f32");
        assert_eq!(names(DType::F64), "bool i8 i16 i32 u8 u16 u32 f16 bf16 f32 f64");
        assert_eq!(names(DType::I32), "bool i8 i16 i32 u8 u16");
        assert_eq!(names(DType::U64), "bool u8 u16 u32 u64");
    }
}
