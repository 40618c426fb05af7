use super::{BoxKernel, Build};
use mslite_graph_opt::ir::op::Pool2d;
pub(super) fn build(_: &Pool2d, _: &Build<'_>) -> Option<BoxKernel> {
    None
}
