//! The constants of a region, as kernels need them.

use std::sync::Arc;

use mslite_graph_opt::ir::{Constant, Def};
use mslite_graph_opt::{Graph, Op, ValueId};
use mslite_runtime::Result;
use mslite_tensor::{HostBuffer, HostSpan};

use crate::arena::{Memory, empty_span, is_aligned};
use crate::kernels::{Weights, may_alias, reads_bytes};

/// The constants of a region.
#[derive(Debug)]
pub(crate) struct Constants {
    values: Vec<ValueId>,
    stores: Vec<Store>,
    /// By node: its packed operand.
    packed: Vec<Option<Arc<Weights>>>,
}

/// Where the bytes of a constant are.
#[derive(Debug)]
enum Store {
    /// Where the model keeps them.
    Shared(Arc<Constant>),
    /// In a copy that is aligned.
    Aligned(Memory),
    /// In packed form only.
    Packed,
}

impl Constants {
    /// Packs what can be packed, and copies what must be aligned and is not.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn prepare(region: &Graph, threads: usize) -> Result<Self> {
        let mut uses = vec![Use::default(); region.values().len()];
        for port in region.outputs() {
            uses[port.value.index()].bytes = true;
        }
        let mut shared: Vec<(ValueId, &Op, Arc<Weights>)> = Vec::new();
        let mut packed = Vec::with_capacity(region.nodes().len());
        for (_, node) in region.nodes() {
            let mut own = None;
            for (operand, &value) in node.operands.iter().enumerate() {
                let usage = &mut uses[value.index()];
                if let Some(constant) = region.constant(value) {
                    let known = shared.iter().find(|(v, op, _)| *v == value && **op == node.op);
                    let weights = known.map(|(_, _, w)| w.clone()).or_else(|| {
                        Weights::pack(&node.op, operand, &constant.tensor, threads).map(Arc::new)
                    });
                    if let Some(weights) = weights {
                        shared.push((value, &node.op, weights.clone()));
                        own = Some(weights);
                        continue;
                    }
                }
                usage.bytes = true;
                usage.elements |= !reads_bytes(&node.op, operand);
            }
            packed.push(own);
        }
        spread_over_aliases(region, &mut uses);
        let mut constants = Constants { values: Vec::new(), stores: Vec::new(), packed };
        for (id, value) in region.values() {
            if let Def::Constant(constant) = &value.def {
                constants.values.push(id);
                constants.stores.push(Store::new(constant, uses[id.index()])?);
            }
        }
        Ok(constants)
    }

    /// The values that are constants, in order.
    pub(crate) fn values(&self) -> &[ValueId] {
        &self.values
    }

    /// Number of the constant that a value is.
    pub(crate) fn position(&self, value: ValueId) -> Option<usize> {
        self.values.binary_search(&value).ok()
    }

    /// The packed operand of a node.
    pub(crate) fn packed(&self, node: usize) -> Option<&Arc<Weights>> {
        self.packed[node].as_ref()
    }

    /// Where the bytes are, in the order of [`Constants::values`]; nowhere for those that are packed.
    pub(crate) fn spans(&self) -> impl Iterator<Item = HostSpan> {
        self.stores.iter().map(|store| match store {
            Store::Shared(constant) => span_of(constant),
            Store::Aligned(memory) => memory.span(),
            Store::Packed => empty_span(),
        })
    }
}

/// How nodes read a constant, apart from those that read it packed.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    bytes: bool,
    elements: bool,
}

/// Whoever reads the elements of an alias reads those of what it stands for.
fn spread_over_aliases(region: &Graph, uses: &mut [Use]) {
    let nodes: Vec<_> = region.nodes().map(|(_, node)| node).collect();
    for node in nodes.into_iter().rev() {
        let elements = node.results.first().is_some_and(|y| uses[y.index()].elements);
        if elements && may_alias(&node.op) {
            for x in &node.operands {
                uses[x.index()].elements = true;
            }
        }
    }
}

impl Store {
    fn new(constant: &Arc<Constant>, usage: Use) -> Result<Self> {
        let tensor = &constant.tensor;
        Ok(match usage {
            Use { bytes: false, .. } => Store::Packed,
            Use { elements: true, .. } if !is_aligned(&span_of(constant), tensor.dtype()) => {
                Store::Aligned(Memory::copy_of(tensor.bytes())?)
            }
            _ => Store::Shared(constant.clone()),
        })
    }
}

fn span_of(constant: &Constant) -> HostSpan {
    use mslite_tensor::Buffer;
    let span = HostBuffer::reading(&constant.tensor).host();
    span.filter(|span| span.len > 0).unwrap_or_else(empty_span)
}

#[cfg(test)]
mod tests {
    use mslite_graph_opt::GraphBuilder;
    use mslite_graph_opt::ir::op::{Slice, Unary};
    use mslite_tensor::{Dim, Tensor};

    use super::*;

    fn uses_after(last: Op) -> Use {
        let mut builder = GraphBuilder::new("g");
        let c = builder.constant("c", Tensor::from_vec(vec![1.0f32; 4], &[4]).unwrap());
        let part = Slice { starts: vec![Dim::from(1)], sizes: vec![Dim::from(2)], steps: vec![1] };
        let part = builder.push1(Op::Slice(part), &[c], &"s".into()).unwrap();
        let y = builder.push1(last, &[part], &"l".into()).unwrap();
        builder.output("y", y);
        let graph = builder.finish().unwrap();
        let mut uses = vec![Use::default(); graph.values().len()];
        uses[part.index()].elements =
            graph.nodes().any(|(_, node)| node.operands[0] == part && !reads_bytes(&node.op, 0));
        spread_over_aliases(&graph, &mut uses);
        uses[c.index()]
    }

    #[test]
    fn elements_of_a_part_are_elements_of_the_constant() {
        assert!(uses_after(Op::Unary(Unary::Abs)).elements);
        assert!(!uses_after(Op::Transpose(vec![0])).elements);
    }
}
