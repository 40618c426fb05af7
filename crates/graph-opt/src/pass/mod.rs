//! Passes: changes that keep what a graph computes.
//!
//! A [`Pass`] looks at a graph and answers with a [`Patch`]; [`optimise`] runs passes until none has anything
//! left to change, and verifies the graph after each.
//!
//! ```
//! use mslite_graph_opt::Graph;
//! use mslite_graph_opt::pass::{OptimiseOptions, optimise};
//!
//! let graph: Graph = r#"graph "g" {
//!   input %x "x" : f32[2, 3]
//!   input %w "w" : f32[3, 4]
//!   input %b "b" : f32[4]
//!   %product = matmul %x, %w @"dense/MatMul"
//!   %sum = add %product, %b @"dense/Add"
//!   %y = relu %sum @"dense/ReLU"
//!   output "y" %y
//! }"#.parse()?;
//! let (graph, report) = optimise(&graph, &OptimiseOptions::default())?;
//! assert_eq!(graph.nodes().len(), 1);
//! assert_eq!(report.rewrites[0].to_string(), "fusion: matmul_bias at dense/Add");
//! # Ok::<(), mslite_graph_opt::Error>(())
//! ```

use std::fmt::Debug;
use std::sync::Arc;

use mslite_tensor::Tensor;

mod algebra;
mod constant_folding;
mod control_flow;
mod cse;
mod dead_code;
mod driver;
mod fusion;
mod layout;
mod patch;
mod rule;
mod wide_sums;

pub use algebra::Algebra;
pub use constant_folding::ConstantFolding;
pub use control_flow::ControlFlow;
pub use cse::CommonSubexpressions;
pub use dead_code::DeadCode;
pub use driver::{Dump, FoldLimits, OptimiseOptions, PassContext, Report, Rewrite, optimise};
pub use fusion::Fusion;
pub use layout::Layout;
pub use patch::Patch;
pub use wide_sums::{WideSums, widen_sums};

use crate::ir::Op;
use crate::{Graph, Result};

/// Something that changes graphs and keeps what they compute.
pub trait Pass: Debug + Send + Sync {
    /// Name by which it is switched off, and found in reports.
    fn name(&self) -> &'static str;

    /// The change that it would make, or `None`. It asks [`PassContext::spend`] before each rewrite.
    ///
    /// # Errors
    /// Only when the pass is defective; what it cannot change stays as it is.
    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>>;
}

/// Runs operations on constants.
pub trait Evaluator: Debug + Send + Sync {
    /// The result of an operation that has one, or `None` when this evaluator cannot run it.
    fn evaluate(&self, op: &Op, operands: &[&Tensor]) -> Option<Tensor>;
}

/// The passes of this crate in the order in which they run.
pub fn standard_passes() -> Vec<Arc<dyn Pass>> {
    vec![
        Arc::new(DeadCode),
        Arc::new(ConstantFolding),
        Arc::new(ControlFlow),
        Arc::new(Algebra),
        Arc::new(Layout),
        Arc::new(CommonSubexpressions),
        Arc::new(Fusion),
    ]
}
