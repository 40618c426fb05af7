//! From the IR to MindIR: the mirror of the import.
//!
//! Operations become primitives that MindSpore runs on every device, with all arguments as operands; where there is
//! no such primitive they are spelt out, in the forms that the passes recognise. Extents become shape arithmetic,
//! states parameters that are written at the end, branches and loops functions.

mod extents;
mod flow;
mod names;
mod ops;
mod table;
mod writer;

use mslite_mindir::{Model, ModelBuilder};

use crate::import::Names;
use crate::{Error, Graph, Result};
use writer::Writer;

/// The model of a graph, which [`import`](crate::import) reads back to an equivalent one.
///
/// Names of inputs, outputs, states and named constants stay, and the origin of a node is the scope of the primitives
/// that it becomes. Weights are not copied.
///
/// # Errors
/// [`Error::Unsupported`] for a product that is not rounded ([`MatMul::wide`](crate::ir::op::MatMul)), which only the
/// ranks of a session agree upon, and for extents that nothing in the graph has; it names the node.
pub fn export(graph: &Graph) -> Result<Model> {
    let mut model = ModelBuilder::new(&names::plain(graph.name()));
    let mut functions = Names::default();
    functions.unique(&names::plain(graph.name()));
    let outputs = Writer::new(&mut model, 0, graph, &mut functions).entry()?;
    let defective = |error: mslite_mindir::Error| Error::InvalidModel {
        origin: graph.name().to_owned(),
        reason: format!("its names cannot be written: {error}"),
    };
    let mut model = model.finish().map_err(defective)?;
    names::rename(&mut model, &outputs);
    model.check().map_err(defective)?;
    Ok(model)
}
