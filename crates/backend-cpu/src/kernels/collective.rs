use std::sync::Arc;

use mslite_collective::{Collective as Communicator, CollectiveKind, CollectiveOp, Error as Failed};
use mslite_graph_opt::ir::op::Collective;
use mslite_runtime::{Error, ErrorKind, Groups, Result};
use mslite_tensor::HostStream;

use super::{BoxKernel, Build, Kernel, Type};
use crate::arena::Args;

/// A kernel that hands over what this rank contributes, which the kernel of the operation goes on with.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when there is no communicator.
pub(crate) fn start(collective: &Collective, send: &Type, groups: &Groups) -> Result<BoxKernel> {
    let op = collective.op.clone();
    Ok(Box::new(Start { group: communicator(&op, groups)?, op, send: send.clone() }))
}

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
struct Start {
    op: CollectiveOp,
    group: Arc<dyn Communicator>,
    send: Type,
}

impl Kernel for Start {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let send = args.input_buffer(0, self.send.dtype, &self.send.dims);
        self.group.start(&self.op, &send, &HostStream).map_err(|e| failed(&self.op, e))
    }
}

#[derive(Debug)]
struct Exchange {
    op: CollectiveOp,
    group: Arc<dyn Communicator>,
    send: Option<Type>,
    receive: Option<Type>,
}

impl Kernel for Exchange {
    fn in_place(&self, _operand: usize) -> bool {
        matches!(self.op.kind, CollectiveKind::AllReduce(_) | CollectiveKind::Broadcast { .. })
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let send = match &self.send {
            Some(t) => args.input_buffer(0, t.dtype, &t.dims),
            None => Args::empty_buffer(),
        };
        let receive = match &self.receive {
            Some(t) => args.output_buffer(0, t.dtype, &t.dims),
            None => Args::empty_buffer(),
        };
        self.group.enqueue(&self.op, &send, &receive, &HostStream).map_err(|e| failed(&self.op, e))
    }
}

fn failed(op: &CollectiveOp, error: Failed) -> Error {
    let kind = match &error {
        Failed::PeerLost { .. } | Failed::Aborted { .. } => ErrorKind::PeerLost,
        Failed::Cancelled { .. } => ErrorKind::Cancelled,
        Failed::Timeout { .. } => ErrorKind::Timeout,
        Failed::Mismatch { .. } => ErrorKind::PlanMismatch,
        Failed::Unsupported(_) => ErrorKind::Unsupported,
        Failed::InvalidArgument(_) => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("{op} failed")).caused_by(error)
}
