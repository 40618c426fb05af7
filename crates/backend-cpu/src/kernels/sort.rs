use super::{BoxKernel, Build};
use mslite_graph_opt::ir::op::{ArgReduce, TopK};
pub(super) fn arg_reduce(_: &ArgReduce, _: &Build<'_>) -> Option<BoxKernel> {
    None
}
pub(super) fn top_k(_: &TopK, _: &Build<'_>) -> Option<BoxKernel> {
    None
}
