//! From MindIR to the IR.
//!
//! Names are resolved in the whole model, calls are inlined, tuples are taken apart, chains of effects become
//! single assignment, and shape arithmetic becomes expressions inside operations.

mod call;
mod complex;
mod emit;
mod flow;
mod item;
mod known;
mod ops;
mod ports;
mod table;
mod unsupported;
mod walk;

pub(crate) use emit::{scalar_tensor, whole};
pub(crate) use ports::Names;
pub use unsupported::alternative;

use std::collections::{BTreeMap, BTreeSet};

use mslite_mindir::Model;
use mslite_tensor::TensorSpec;

use crate::ir::Port;
use crate::{Graph, Result};

/// Limits of an import.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Most nodes after inlining of calls; more are refused.
    pub max_nodes: usize,
    /// Deepest nesting of calls; deeper is refused.
    pub max_depth: usize,
    /// Number of axes, by name, of inputs for which the model leaves it open. Few operations can be imported without.
    pub axes: BTreeMap<String, usize>,
    /// Which rank of the world the graph is for. Exchanges of various lengths cannot be put in order without it, and
    /// stay opaque.
    pub rank: Option<usize>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions { max_nodes: 1 << 20, max_depth: 128, axes: BTreeMap::new(), rank: None }
    }
}

/// Names and types of the inputs that the graph of a model has.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for inputs that are no tensors, and
/// [`Error::InvalidModel`](crate::Error::InvalidModel) for those without a type.
pub fn import_inputs(model: &Model) -> Result<Vec<(String, TensorSpec)>> {
    let options = ImportOptions::default();
    let graph = walk::Importer::new(model, &options, &BTreeSet::new()).inputs()?;
    let spec = |port: &Port| (port.name.clone(), graph.spec(port.value).clone());
    Ok(graph.inputs().iter().map(spec).collect())
}

/// The graph of a model.
///
/// Extents that the model leaves open become symbols named after input and axis (`x_0`). Primitives that the IR
/// does not know are carried as [`Op::Opaque`](crate::Op::Opaque).
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for recursion that is no loop, branches whose ways do not fit each
/// other, primitives that run Python, and options without a counterpart; [`Error::InvalidModel`](crate::Error::InvalidModel) for a model that
/// contradicts itself; [`Error::Infer`](crate::Error::Infer) when operands do not fit. Each names the scope of the
/// node.
pub fn import(model: &Model, options: &ImportOptions) -> Result<Graph> {
    let mut written = BTreeSet::new();
    loop {
        // A parameter is a constant unless something writes it, which is only known in the end.
        let (result, writes) = walk::Importer::new(model, options, &written).run();
        if writes.is_subset(&written) {
            return result;
        }
        written.extend(writes);
    }
}
