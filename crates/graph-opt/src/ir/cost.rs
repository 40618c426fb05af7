//! What nodes cost, from shapes alone.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Add;

use mslite_collective::CollectiveKind;
use mslite_tensor::{Dim, TensorSpec};

use super::ValueId;
use super::graph::{Graph, Node};
use super::op::{Collective, If, Loop, Op, Packed};

/// What a node, or a graph, costs: an estimate to compare graphs by, not a time.
///
/// | Operation | Arithmetic operations |
/// |---|---|
/// | element-wise functions, arithmetic, comparisons | 1 for each element of the result, whatever the function |
/// | matrix product, convolution | 2 for each product; 1 for each element of the result for a bias, and for an activation |
/// | attention | 2 for each product, 6 for each score |
/// | rotary embedding, softmax | 3, 5 for each element |
/// | layer normalisation, RMS normalisation | 5 (7 with scale and shift), 4 for each element; 1 for each addend |
/// | gates | 2 for each element of the result |
/// | reductions, running sums, top k | 1 for each element of the operand |
/// | pooling | 1 for each cell of each window |
/// | casts, selections, and what only moves elements | none |
/// | collectives that reduce | 1 for each element and each other rank |
///
/// Each operand is read once and each result written once. Of a gather or a slice only what is taken is read;
/// reshaping moves nothing. A rank of a ring of `n` sends `2 * (n - 1) / n` of an operand to reduce it for all,
/// `(n - 1) / n` to scatter a reduction or to exchange blocks, and `n - 1` operands to gather them for all; where
/// `n` is not known, `n - 1` counts as `n`, and a group as 2 ranks. Of the ways of a branch the dearer one
/// counts, of a loop one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Arithmetic operations.
    pub flops: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes that this rank sends to others.
    pub sent: u64,
}

impl Cost {
    /// Bytes read and written.
    pub fn moved(&self) -> u64 {
        self.read.saturating_add(self.written)
    }
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            flops: self.flops.saturating_add(other.flops),
            read: self.read.saturating_add(other.read),
            written: self.written.saturating_add(other.written),
            sent: self.sent.saturating_add(other.sent),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}

impl Graph {
    /// How many nodes have each operation, by its name.
    pub fn op_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, node) in self.nodes() {
            *counts.entry(node.op.name()).or_insert(0) += 1;
        }
        counts
    }

    /// What all nodes cost together; `None` when one of them cannot be told.
    pub fn total_cost(&self) -> Option<Cost> {
        self.nodes().map(|(_, node)| self.cost(node)).sum()
    }

    /// What those nodes cost together of which it can be told, and how many others there are.
    pub fn known_cost(&self) -> (Cost, usize) {
        self.nodes().fold((Cost::default(), 0), |(sum, others), (_, node)| match self.cost(node) {
            Some(cost) => (sum + cost, others),
            None => (sum, others + 1),
        })
    }

    /// What a node costs; `None` for opaque primitives and for extents that are not numbers.
    pub fn cost(&self, node: &Node) -> Option<Cost> {
        match &node.op {
            Op::Opaque(_) => return None,
            Op::Reshape(_) => return Some(Cost::default()),
            Op::If(If { then, otherwise }) => {
                let (a, b) = (then.total_cost()?, otherwise.total_cost()?);
                return Some(if (a.flops, a.moved()) > (b.flops, b.moved()) { a } else { b });
            }
            Op::Loop(Loop { body, .. }) => return body.total_cost(),
            _ => {}
        }
        let bytes = |&value: &ValueId| bytes(self.spec(value));
        let written = node.results.iter().map(bytes).sum::<Option<u64>>()?;
        let read = match &node.op {
            Op::Gather(_) | Op::GatherElements { .. } | Op::GatherNd => {
                written.saturating_add(bytes(&node.operands[1])?)
            }
            Op::Slice(_) => written,
            Op::Attention(attention) => {
                let taken = |(n, value): (usize, &ValueId)| match attention.packed.get(n).copied().flatten() {
                    Some(packed) if n < 3 => packed_bytes(self.spec(*value), packed),
                    _ => bytes(value),
                };
                node.operands.iter().enumerate().map(taken).sum::<Option<u64>>()?
            }
            _ => node.operands.iter().map(bytes).sum::<Option<u64>>()?,
        };
        let sent = match &node.op {
            Op::Collective(collective) => sent(collective, read, written),
            _ => 0,
        };
        Some(Cost { flops: self.arithmetic(node)?, read, written, sent })
    }

    /// Multiplications and additions of a matrix product or a convolution, the bias and the activation not
    /// counted: the estimate by which kernels and machines are compared. `None` for other operations and for
    /// extents that are not numbers.
    pub fn flops(&self, node: &Node) -> Option<u64> {
        let &[first, second, ..] = node.operands.as_slice() else { return None };
        let first = self.spec(first).shape.dims()?;
        let second = self.spec(second).shape.dims()?;
        // How many products are added up for one element of the result.
        let depth: Vec<&Dim> = match &node.op {
            Op::MatMul(matmul) if matmul.transpose_a && first.len() > 1 => vec![&first[first.len() - 2]],
            Op::MatMul(_) => vec![first.last()?],
            Op::Conv2d(_) => second[1..].iter().collect(),
            _ => return None,
        };
        let result = self.spec(node.results[0]).shape.dims()?;
        let product = |n: u64, dim: &Dim| Some(n.saturating_mul(u64::try_from(dim.as_fixed()?).ok()?));
        depth.into_iter().chain(result).try_fold(2, product)
    }

    fn arithmetic(&self, node: &Node) -> Option<u64> {
        let operand = |n: usize| elements(self.spec(node.operands[n]));
        let result = || elements(self.spec(node.results[0]));
        let times = |n: u64| result().map(|count| count.saturating_mul(n));
        match &node.op {
            Op::Unary(_) | Op::Binary(_) => result(),
            Op::MatMul(matmul) => self.finished(node, matmul.activation.is_some()),
            Op::Conv2d(conv) => self.finished(node, conv.activation.is_some()),
            Op::Attention(attention) => {
                let [query, value] = [0, 2].map(|n| self.spec(node.operands[n]).shape.as_fixed());
                let (query, value) = (query?, value?);
                let size = |n: usize, dims: &[usize]| match attention.packed[n] {
                    Some(packed) => (dims[0] * dims[1] * packed.heads, dims[1], packed.width),
                    None => (dims[..3].iter().product(), dims[3 - attention.heads[n]], dims[3]),
                };
                let ((rows, _, width), (_, columns, value)) = (size(0, &query), size(2, &value));
                let each = 2 * (width + value) + 6;
                [columns, each].into_iter().try_fold(rows as u64, |n, by| n.checked_mul(by as u64))
            }
            Op::Rope => times(3),
            Op::Gated(_) => times(2),
            Op::Softmax(_) => times(5),
            Op::LayerNorm(_) => times(if node.operands.len() > 1 { 7 } else { 5 }),
            Op::RmsNorm(_) => times(4),
            Op::AddNorm(norm) => {
                let (own, factors) = if norm.centred { (7, 2) } else { (4, 1) };
                times(own + node.operands.len().saturating_sub(1 + factors) as u64)
            }
            Op::Reduce(_) | Op::ArgReduce(_) | Op::Cumulative(_) | Op::TopK(_) => operand(0),
            Op::Pool2d(pool) => times(pool.kernel.iter().product::<usize>() as u64),
            Op::Collective(collective) if collective.op.kind.reduction().is_some() => {
                operand(0).map(|count| count.saturating_mul(ranks(collective) - 1))
            }
            _ => Some(0),
        }
    }

    /// A product with its bias and activation.
    fn finished(&self, node: &Node, activates: bool) -> Option<u64> {
        let more = u64::from(node.operands.len() > 2) + u64::from(activates);
        let result = elements(self.spec(node.results[0]))?;
        Some(self.flops(node)?.saturating_add(result.saturating_mul(more)))
    }
}

/// Bytes of the heads in the columns of a tensor.
fn packed_bytes(spec: &TensorSpec, packed: Packed) -> Option<u64> {
    let dims = spec.shape.as_fixed()?;
    let rows = (*dims.first()? as u64).checked_mul(*dims.get(1)? as u64)?;
    let row = (packed.heads as u64).checked_mul(packed.width as u64)?.checked_mul(spec.dtype.size() as u64)?;
    Some(rows.saturating_mul(row))
}

fn ranks(collective: &Collective) -> u64 {
    let known = collective.size.or(collective.ranks.as_ref().map(Vec::len));
    known.map_or(2, |n| n.max(1) as u64)
}

/// Bytes that one rank sends.
fn sent(collective: &Collective, read: u64, written: u64) -> u64 {
    let known = collective.size.is_some() || collective.ranks.is_some();
    let n = ranks(collective);
    let others = if known { n - 1 } else { n };
    let share = |bytes: u64| (u128::from(bytes) * u128::from(others) / u128::from(n)) as u64;
    match collective.op.kind {
        CollectiveKind::AllReduce(_) => share(read).saturating_mul(2),
        CollectiveKind::ReduceScatter(_) | CollectiveKind::AllToAll => share(read),
        CollectiveKind::AllGather => share(written),
        CollectiveKind::Receive { .. } | CollectiveKind::Barrier => 0,
        _ => read,
    }
}

fn elements(spec: &TensorSpec) -> Option<u64> {
    let count = |n: u64, dim: &Dim| Some(n.saturating_mul(u64::try_from(dim.as_fixed()?).ok()?));
    spec.shape.dims()?.iter().try_fold(1, count)
}

pub(super) fn bytes(spec: &TensorSpec) -> Option<u64> {
    elements(spec).map(|count| count.saturating_mul(spec.dtype.size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_counted() {
        let text = r#"graph "g" {
            input %x "x" : f32[5, 3, 2]
            input %w "w" : f32[3, 4]
            input %v "v" : f32[3]
            input %n "n" : f32[n, 3]
            input %i "i" : f32[1, 4, 8, 8]
            input %k "k" : f32[6, 2, 3, 3]
            %0 = matmul(transpose_a=true) %x, %w
            %1 = matmul(transpose_a=true) %v, %w
            %2 = matmul %n, %w
            %3 = conv2d(strides=[2, 2], padding=same, dilations=[1, 1], groups=2) %i, %k
            %4 = add %x, %x
        }"#;
        let graph: Graph = text.parse().unwrap();
        let flops: Vec<_> = graph.nodes().map(|(_, node)| graph.flops(node)).collect();
        let expected =
            [Some(2 * 5 * 2 * 3 * 4), Some(2 * 3 * 4), None, Some(2 * (6 * 4 * 4) * (2 * 3 * 3)), None];
        assert_eq!(flops, expected);
        assert_eq!(graph.op_counts(), BTreeMap::from([("add", 1), ("conv2d", 1), ("matmul", 3)]));
    }

    #[test]
    fn costs_follow_from_shapes() {
        let text = r#"graph "g" {
            input %x "x" : f32[2, 4]
            input %w "w" : f32[4, 3]
            input %b "b" : f32[3]
            input %i "i" : i32[5]
            input %q "q" : f32[1, 3, 2, 4]
            input %k "k" : f32[1, 7, 1, 4]
            input %v "v" : f32[1, 7, 1, 6]
            input %n "n" : f32[n]
            %0 = matmul(activation=relu) %x, %w, %b
            %1 = gather(axis=0, batch_dims=0) %w, %i
            %2 = attention(heads=[2, 2, 2, 2], scale=1.0) %q, %k, %v
            %3 = reshape(dims=[8]) %x
            %4 = collective(op=all_reduce(sum) group="g", size=4) %x
            %5 = exp %n
        }"#;
        let graph: Graph = text.parse().unwrap();
        let costs: Vec<_> = graph.nodes().map(|(_, node)| graph.cost(node)).collect();
        let cost = |flops, read, written, sent| Some(Cost { flops, read, written, sent });
        assert_eq!(costs[0], cost(2 * 2 * 3 * 4 + 2 * 6, 4 * (8 + 12 + 3), 4 * 6, 0));
        assert_eq!(costs[1], cost(0, 4 * 15 + 4 * 5, 4 * 15, 0));
        assert_eq!(costs[2], cost(3 * 2 * 7 * (2 * (4 + 6) + 6), 4 * (24 + 28 + 42), 4 * 36, 0));
        assert_eq!(costs[3], cost(0, 0, 0, 0));
        assert_eq!(costs[4], cost(8 * 3, 32, 32, 2 * 32 * 3 / 4));
        assert_eq!(costs[5], None);
        assert_eq!(graph.known_cost(), (costs[..5].iter().copied().flatten().sum(), 1));
        assert_eq!(graph.total_cost(), None);
    }
}
