use std::collections::HashMap;
use std::sync::Arc;

use mslite_tensor::{DType, Tensor, f16};
use smallvec::SmallVec;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{Binary, MatMul, Op, Unary};
use crate::ir::{Node, NodeId, ValueId};
use crate::{Error, Graph, Result};

/// Computes products in 16 bits, in a model of f32.
///
/// - matrix products, convolutions and attention, with bias and activation
/// - gates, rotary embeddings, sums, products and activations, and what only moves elements, where everything that they
///   read is in 16 bits already, or constant
///
/// Casts stand at the borders; those of constants are folded. Everything else stays as it is: inputs, outputs and
/// states, reductions, normalisations and softmax, exchanges, embeddings, and sums with what goes round a layer.
/// Products are added up in f32 all the same, and rounded once.
///
/// It waits until other passes have nothing left to do, and is not among those of any level: it changes results by
/// more than rounding of f32. It does not fire for what [`Precision::keeping`] names, for functions that leave the
/// range of f16, such as the exponential, where a constant lies outside the range of the type, nor where a number
/// that everything is multiplied by is so small that it would lose digits.
///
/// ```text
/// %2 = layer_norm(...) %0, ... : f32[8, 64]          |  %2 = layer_norm(...) %0, ... : f32[8, 64]
/// %3 = matmul(activation=gelu) %2, %a : f32[8, 64]   |  %3 = cast(to=f16) %2 : f16[8, 64]
/// %4 = matmul %3, %b : f32[8, 64]                    |  %4 = matmul(activation=gelu) %3, %a16 : f16[8, 64]
///                                                    |  %5 = matmul %4, %b16 : f16[8, 64]
///                                                    |  %6 = cast(to=f32) %5 : f32[8, 64]
/// ```
#[derive(Debug, Clone)]
pub struct Precision {
    dtype: DType,
    keep: Vec<String>,
}

impl Precision {
    /// Lowers to f16 or bf16.
    ///
    /// # Errors
    /// [`Error::Options`] for another type.
    pub fn new(dtype: DType) -> Result<Self> {
        match dtype {
            DType::F16 | DType::BF16 => Ok(Precision { dtype, keep: Vec::new() }),
            _ => Err(Error::Options(format!("products are lowered to f16 or bf16, not to {dtype}"))),
        }
    }

    /// Keeps nodes as they are: those of an operation, by its name in the text form, or those whose origin fits a
    /// pattern, in which `*` stands for anything.
    #[must_use]
    pub fn keeping(mut self, pattern: impl Into<String>) -> Self {
        self.keep.push(pattern.into());
        self
    }

    fn keeps(&self, node: &Node) -> bool {
        self.keep.iter().any(|pattern| pattern == node.op.name() || fits(pattern, &node.origin))
    }
}

/// Whether a text fits a pattern.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

impl Pass for Precision {
    fn name(&self) -> &'static str {
        "precision"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        if !cx.is_settled() {
            return Ok(None);
        }
        let mut walk = Walk {
            graph,
            dtype: self.dtype,
            patch: Patch::new(graph),
            narrow: HashMap::new(),
            casts: HashMap::new(),
        };
        for (id, node) in graph.nodes() {
            if !walk.is_lowered(node) || self.keeps(node) {
                walk.find_cast(node);
            } else if moves(&node.op) {
                // Only for who goes on in 16 bits: others read it as it was.
                walk.narrow(id, node)?;
            } else if cx.spend("lowered", &node.origin) {
                let narrow = walk.narrow(id, node)?;
                let wide = walk.patch.push(graph, id, Op::Cast(DType::F32), &[narrow], &node.origin)?[0];
                walk.patch.replace(node.results[0], wide);
            }
        }
        Ok(walk.patch.into_change())
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    dtype: DType,
    patch: Patch,
    /// Values of f32 that are made of such of 16 bits.
    narrow: HashMap<ValueId, ValueId>,
    /// Casts of others.
    casts: HashMap<ValueId, ValueId>,
}

impl Walk<'_> {
    fn is_wide(&self, value: ValueId) -> bool {
        self.graph.spec(value).dtype == DType::F32
    }

    /// Remembers what a cast from 16 bits stands for.
    fn find_cast(&mut self, node: &Node) {
        let Op::Cast(DType::F32) = node.op else { return };
        if self.graph.spec(node.operands[0]).dtype == self.dtype {
            self.narrow.insert(node.results[0], node.operands[0]);
        }
    }

    fn is_lowered(&self, node: &Node) -> bool {
        let &[result] = node.results.as_slice() else { return false };
        let operands = &node.operands[..operands_in_type(&node.op, node.operands.len())];
        let wide: SmallVec<[ValueId; 3]> =
            operands.iter().copied().filter(|&value| self.is_wide(value)).collect();
        if !self.is_wide(result) || wide.is_empty() || !wide.iter().all(|&value| self.holds(node, value)) {
            return false;
        }
        let is_known = |value: &ValueId| self.graph.constant(*value).is_some();
        let is_narrow = |value: &ValueId| self.narrow.contains_key(value);
        match &node.op {
            Op::MatMul(MatMul { wide: false, .. }) | Op::Conv2d(_) | Op::Attention(_) => true,
            op => {
                let all = wide.iter().all(|value| is_known(value) || is_narrow(value));
                follows(op) && all && wide.iter().any(is_narrow)
            }
        }
    }

    /// Whether a value may be held in 16 bits: it is computed, or its elements are in the type's range.
    fn holds(&self, node: &Node, value: ValueId) -> bool {
        let Some(constant) = self.graph.constant(value) else { return true };
        let is_factor = node.op == Op::Binary(Binary::Mul);
        self.dtype == DType::BF16 || holds(&constant.tensor, is_factor)
    }

    /// The result of a node in 16 bits.
    fn narrow(&mut self, at: NodeId, node: &Node) -> Result<ValueId> {
        let in_type = operands_in_type(&node.op, node.operands.len());
        let mut operands: SmallVec<[ValueId; 3]> = node.operands.iter().copied().collect();
        for value in operands.iter_mut().take(in_type) {
            if self.is_wide(*value) {
                *value = self.narrowed(at, *value, &node.origin)?;
            }
        }
        let result = self.patch.push(self.graph, at, node.op.clone(), &operands, &node.origin)?[0];
        self.narrow.insert(node.results[0], result);
        Ok(result)
    }

    /// A value in 16 bits, cast once.
    fn narrowed(&mut self, at: NodeId, value: ValueId, origin: &Arc<str>) -> Result<ValueId> {
        if let Some(&narrow) = self.narrow.get(&value).or_else(|| self.casts.get(&value)) {
            return Ok(narrow);
        }
        let narrow = self.patch.push(self.graph, at, Op::Cast(self.dtype), &[value], origin)?[0];
        self.casts.insert(value, narrow);
        Ok(narrow)
    }
}

/// How many operands have the type that is computed in: all but the mask of attention, which belongs to the scores.
fn operands_in_type(op: &Op, count: usize) -> usize {
    if matches!(op, Op::Attention(_)) { count.min(3) } else { count }
}

/// Whether an operation is lowered where what it reads is.
fn follows(op: &Op) -> bool {
    match op {
        Op::Unary(f) | Op::Gated(f) => stays_in_range(*f),
        Op::Binary(f) => {
            matches!(f, Binary::Add | Binary::Sub | Binary::Mul | Binary::Maximum | Binary::Minimum)
        }
        Op::Rope | Op::Select => true,
        op => moves(op),
    }
}

/// Whether an operation only moves elements.
fn moves(op: &Op) -> bool {
    use Op::{Broadcast, Concat, Reshape, Slice, Transpose};
    matches!(op, Reshape(_) | Transpose(_) | Broadcast(_) | Concat { .. } | Slice(_))
}

/// Whether a function's results are about as large as what it is applied to, or smaller.
fn stays_in_range(f: Unary) -> bool {
    use Unary as U;
    matches!(
        f,
        U::Abs
            | U::Neg
            | U::Sign
            | U::Tanh
            | U::Erf
            | U::Sigmoid
            | U::Relu
            | U::Relu6
            | U::Gelu
            | U::GeluTanh
            | U::FastGelu
            | U::Silu
            | U::Mish
            | U::HardSwish
            | U::HardSigmoid
            | U::Softplus
            | U::Softsign
            | U::Elu { .. }
            | U::LeakyRelu { .. }
    )
}

/// Whether f16 holds the elements of a tensor of f32; a single factor not as a number with fewer digits.
fn holds(tensor: &Tensor, is_factor: bool) -> bool {
    let (most, least) = (f16::MAX.to_f32(), f16::MIN_POSITIVE.to_f32());
    let is_one = is_factor && tensor.num_elements() == 1;
    let fits = |x: f32| x.abs() <= most && (!is_one || x == 0.0 || x.abs() >= least);
    let numbers = tensor.bytes().as_chunks::<4>().0.iter().map(|&bytes| f32::from_ne_bytes(bytes));
    numbers.into_iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_origins() {
        for (pattern, text, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a*", "a/b", true),
            ("*head*", "Default/head-Dense/MatMul", true),
            ("*head", "Default/head-Dense", false),
            ("a*b*c", "a-bb-c", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn only_16_bits_are_precisions() {
        assert!(Precision::new(DType::BF16).is_ok());
        assert!(Precision::new(DType::F64).is_err());
    }
}
