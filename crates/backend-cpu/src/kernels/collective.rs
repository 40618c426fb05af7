use std::sync::Arc;

use mslite_collective::{Collective as Communicator, CollectiveOp, Error as Failed};
use mslite_graph_opt::ir::op::Collective;
use mslite_runtime::{Error, ErrorKind, Groups, Result};
use mslite_tensor::HostStream;

use super::{BoxKernel, Build, Kernel, Type};
use crate::arena::Args;

pub(super) fn build(collective: &Collective, cx: &Build<'_>) -> Result<BoxKernel> {
    let group = communicator(&collective.op, cx.groups)?;
    if !group.supports(&collective.op) {
        let reason = format!("the communicator of its group does not do {}", collective.op);
        return Err(Error::new(ErrorKind::Unsupported, reason));
    }
    let kernel = Exchange {
        op: collective.op.clone(),
        group,
        send: cx.inputs.first().cloned(),
        receive: cx.outputs.first().cloned(),
    };
    Ok(Box::new(kernel))
}

/// The communicator for an operation.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when there is none.
pub(crate) fn communicator(op: &CollectiveOp, groups: &Groups) -> Result<Arc<dyn Communicator>> {
    let found = groups
        .collective(&op.group)
        .or_else(|| groups.iter().map(|(_, c)| c).find(|c| c.group().answers_to(&op.group)));
    found.cloned().ok_or_else(|| {
        let reason = format!("no communicator was given for the group {:?}", op.group.as_str());
        Error::new(ErrorKind::InvalidArgument, reason)
    })
}

#[derive(Debug)]
struct Exchange {
    op: CollectiveOp,
    group: Arc<dyn Communicator>,
    send: Option<Type>,
    receive: Option<Type>,
}

impl Kernel for Exchange {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let send = match &self.send {
            Some(t) => args.input_buffer(0, t.dtype, &t.dims),
            None => Args::empty_buffer(),
        };
        let receive = match &self.receive {
            Some(t) => args.output_buffer(0, t.dtype, &t.dims),
            None => Args::empty_buffer(),
        };
        self.group.enqueue(&self.op, &send, &receive, &HostStream).map_err(|e| self.failed(e))?;
        Ok(())
    }
}

impl Exchange {
    fn failed(&self, error: Failed) -> Error {
        let kind = match &error {
            Failed::PeerLost { .. } | Failed::Aborted { .. } => ErrorKind::PeerLost,
            Failed::Timeout { .. } => ErrorKind::Timeout,
            Failed::Mismatch { .. } => ErrorKind::PlanMismatch,
            Failed::Unsupported(_) => ErrorKind::Unsupported,
            Failed::InvalidArgument(_) => ErrorKind::InvalidArgument,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, format!("{} failed", self.op)).caused_by(error)
    }
}
