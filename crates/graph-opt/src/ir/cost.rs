use std::collections::BTreeMap;

use mslite_tensor::Dim;

use super::graph::{Graph, Node};
use super::op::Op;

impl Graph {
    /// How many nodes have each operation, by its name.
    pub fn op_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, node) in self.nodes() {
            *counts.entry(node.op.name()).or_insert(0) += 1;
        }
        counts
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
}
