//! The intermediate representation.

mod cost;
mod graph;
mod memory;
mod nested;
pub mod op;
mod verify;

pub use cost::Cost;
pub use graph::{Constant, Def, Graph, GraphBuilder, Node, NodeId, Port, State, Value, ValueId};
pub(crate) use nested::{Mark, Nested};
pub use op::Op;
pub use verify::{MAX_NESTING, verify};
