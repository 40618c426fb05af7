use super::{BoxKernel, Build};
use mslite_graph_opt::ir::op::Pad;
use mslite_runtime::Result;
pub(super) fn build(_: &Pad, _: &Build<'_>) -> Result<Option<BoxKernel>> {
    Ok(None)
}
