use std::collections::HashMap;

use mslite_tensor::Tensor;
use smallvec::SmallVec;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{Binary, Op};
use crate::ir::{Constant, Node, ValueId};
use crate::text::op_text;
use crate::{Graph, Result};

/// Computes equal things once.
///
/// Two nodes with equal operations and operands become the first of them. Operands of sums, products and the
/// like may be swapped; not those of `maximum` and `minimum`, which may tell 0.0 from -0.0. Constants become one
/// if they share their bytes, or if they are small, equal, and not two parameters of different names.
///
/// It does not fire for nodes with effects or graphs inside, nor for opaque ones, which may be random.
///
/// ```text
/// %1 = exp %0           |  %1 = exp %0
/// %2 = exp %0           |  %2 = add %1, %1
/// %3 = add %1, %2       |
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CommonSubexpressions;

/// Constants of more bytes are not compared.
const SMALL: usize = 1 << 10;

impl Pass for CommonSubexpressions {
    fn name(&self) -> &'static str {
        "common_subexpressions"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let mut patch = Patch::new(graph);
        merge_constants(graph, &mut patch, cx);
        let mut seen: HashMap<Key, SmallVec<[&Node; 1]>> = HashMap::new();
        for (_, node) in graph.nodes() {
            if node.op.has_effect() || matches!(node.op, Op::Opaque(_) | Op::If(_) | Op::Loop(_)) {
                continue;
            }
            let others = seen.entry(key(node, &patch)).or_default();
            match others.iter().find(|other| are_equal(&node.op, &other.op)) {
                Some(first) => {
                    if cx.spend("equal_nodes", &node.origin) {
                        let pairs = node.results.iter().zip(&first.results);
                        pairs.for_each(|(&old, &new)| patch.replace(old, new));
                    }
                }
                None => others.push(node),
            }
        }
        Ok(patch.into_change())
    }
}

/// The kind of an operation, and its operands.
type Key<'a> = (&'a str, SmallVec<[ValueId; 3]>);

/// The text form tells apart floats that compare equal, such as 0.0 and -0.0.
fn are_equal(x: &Op, y: &Op) -> bool {
    x == y && op_text(x) == op_text(y)
}

fn key<'a>(node: &'a Node, patch: &Patch) -> Key<'a> {
    let mut operands: SmallVec<[ValueId; 3]> =
        node.operands.iter().map(|&value| patch.resolve(value)).collect();
    if let Op::Binary(f) = node.op
        && f.is_commutative()
        && !matches!(f, Binary::Maximum | Binary::Minimum)
    {
        operands.sort_unstable();
    }
    (node.op.name(), operands)
}

fn merge_constants(graph: &Graph, patch: &mut Patch, cx: &mut PassContext) {
    let mut seen: HashMap<_, Vec<(ValueId, &Constant)>> = HashMap::new();
    for (id, _) in graph.values() {
        let Some(constant) = graph.constant(id) else { continue };
        let tensor = &constant.tensor;
        let bytes = tensor.bytes();
        let fingerprint = if bytes.len() <= SMALL { Ok(bytes) } else { Err(bytes.as_ptr()) };
        let others = seen.entry((tensor.dtype(), tensor.dims(), fingerprint)).or_default();
        match others.iter().find(|(_, other)| are_one(other, constant)) {
            Some(&(first, _)) => {
                if cx.spend("equal_constants", &constant.name) {
                    patch.replace(id, first);
                }
            }
            None => others.push((id, constant)),
        }
    }
}

fn are_one(first: &Constant, second: &Constant) -> bool {
    let at = |tensor: &Tensor| (tensor.bytes().as_ptr(), tensor.size_bytes());
    second.name.is_empty() || first.name == second.name || at(&first.tensor) == at(&second.tensor)
}
