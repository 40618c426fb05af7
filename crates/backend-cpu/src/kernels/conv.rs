use super::{BoxKernel, Build};
use mslite_graph_opt::ir::op::Conv2d;
pub(super) fn build(_: &Conv2d, _: &Build<'_>) -> Option<BoxKernel> {
    None
}
