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

mod add_norm;
mod algebra;
mod attention;
mod collectives;
mod constant_folding;
mod control_flow;
mod cse;
mod dead_code;
mod driver;
mod fusion;
mod invariant_code;
mod joined_products;
mod layout;
mod overlap;
mod patch;
mod precision;
mod recognition;
mod row_motion;
mod rule;
mod weight_folding;
mod wide_sums;

pub use add_norm::AddNorm;
pub use algebra::Algebra;
pub use attention::Attention;
pub use collectives::Collectives;
pub use constant_folding::ConstantFolding;
pub use control_flow::ControlFlow;
pub use cse::CommonSubexpressions;
pub use dead_code::DeadCode;
pub use driver::{Dump, FoldLimits, Measure, OptimiseOptions, PassContext, Report, Rewrite, Step, optimise};
pub use fusion::Fusion;
pub use invariant_code::InvariantCode;
pub use joined_products::JoinedProducts;
pub use layout::Layout;
pub use overlap::Overlap;
pub use patch::Patch;
pub use precision::Precision;
pub use recognition::Recognition;
pub use row_motion::RowMotion;
pub use weight_folding::WeightFolding;
pub use wide_sums::WideSums;

use crate::ir::Op;
use crate::{Error, Graph, Result};

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

/// How much is done to a graph. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Nothing: the graph as imported.
    O0,
    /// What leaves each element as it is, to the bit, in f32 and f64, and never costs time.
    O1,
    /// Also what computes the same in another way, whose results differ by rounding.
    #[default]
    O2,
}

impl std::str::FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "O0" => Ok(Level::O0),
            "O1" => Ok(Level::O1),
            "O2" => Ok(Level::O2),
            _ => Err(Error::Options(format!("there is no level {text:?}, only O0, O1 and O2"))),
        }
    }
}

type Make = fn() -> Arc<dyn Pass>;

/// The passes of this crate in the order in which they run, and from which level on.
const PASSES: &[(Level, Make)] = &[
    (Level::O1, || Arc::new(DeadCode)),
    (Level::O1, || Arc::new(ConstantFolding)),
    (Level::O1, || Arc::new(ControlFlow)),
    (Level::O1, || Arc::new(InvariantCode)),
    (Level::O1, || Arc::new(Algebra)),
    (Level::O1, || Arc::new(Layout)),
    (Level::O1, || Arc::new(CommonSubexpressions)),
    (Level::O2, || Arc::new(Recognition)),
    (Level::O2, || Arc::new(Attention)),
    (Level::O2, || Arc::new(WeightFolding)),
    (Level::O1, || Arc::new(Fusion)),
    (Level::O1, || Arc::new(RowMotion)),
    (Level::O2, || Arc::new(JoinedProducts)),
    (Level::O1, || Arc::new(AddNorm)),
    (Level::O2, || Arc::new(Overlap)),
];

/// Passes that change what ranks exchange, in their order, and from which level on.
const AGREED: &[(Level, Make)] = &[(Level::O2, || Arc::new(WideSums)), (Level::O2, || Arc::new(Collectives))];

/// The passes of a level in the order in which they run.
pub fn passes(level: Level) -> Vec<Arc<dyn Pass>> {
    PASSES.iter().filter(|(from, _)| *from <= level).map(|(_, make)| make()).collect()
}

/// The passes of a level that change what ranks exchange: either all ranks apply them, or none does, which no rank can
/// know by itself. Sessions ask the other ranks.
pub fn agreed_passes(level: Level) -> Vec<Arc<dyn Pass>> {
    AGREED.iter().filter(|(from, _)| *from <= level).map(|(_, make)| make()).collect()
}

/// All passes of this crate that a rank applies by itself, in their order.
pub fn standard_passes() -> Vec<Arc<dyn Pass>> {
    passes(Level::default())
}
