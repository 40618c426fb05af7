//! What an operation is given, checked.

use std::any::Any;

use mslite_tensor::{Buffer, DType, HostStream, Stream};

use crate::shared::Span;
use crate::{CollectiveKind, CollectiveOp, Error, Group, Result, reduce};

/// The arguments of an operation in host memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) send: Span,
    pub(crate) recv: Span,
    pub(crate) dtype: DType,
    /// Elements of a block: the same at all members.
    pub(crate) count: usize,
}

impl Call {
    /// The arguments, if they are as [`Collective::enqueue`](crate::Collective::enqueue) wants them.
    pub(crate) fn new(
        group: &Group,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<Self> {
        let invalid = |why: String| Error::InvalidArgument(format!("{op}: {why}"));
        if !(stream as &dyn Any).is::<HostStream>() {
            return Err(Error::Unsupported(format!("{op} on a stream other than the host's: {stream:?}")));
        }
        let (Some(send_host), Some(recv_host)) = (send.host(), recv.host()) else {
            return Err(Error::Unsupported(format!("{op} on buffers that the host cannot address")));
        };
        check_place(group, op).map_err(invalid)?;
        let uses = Uses::of(&op.kind, group.rank, group.size());
        let dtype = if uses.send.is_some() { send.dtype() } else { recv.dtype() };
        if uses.recv.is_some() && recv.dtype() != dtype {
            return Err(invalid(format!("send is {dtype}, but recv is {}", recv.dtype())));
        }
        if let Some(reduction) = op.kind.reduction().filter(|&r| !reduce::supports(dtype, r)) {
            return Err(Error::Unsupported(format!("{op}: {reduction} of {dtype}")));
        }
        let (send, recv) = (Span::from(send_host), Span::from(recv_host));
        let count = uses.block(send.len(), recv.len(), dtype.size()).map_err(invalid)?;
        uses.check_overlap(send, recv, group.rank).map_err(invalid)?;
        Ok(Call { send, recv, dtype, count })
    }
}

fn check_place(group: &Group, op: &CollectiveOp) -> Result<(), String> {
    if !group.answers_to(&op.group) {
        return Err(format!("this is group {:?}", group.name.as_str()));
    }
    match op.kind.peer().filter(|&peer| peer >= group.size()) {
        Some(peer) => Err(format!("there is no rank {peer} in a group of {}", group.size())),
        None => Ok(()),
    }
}

/// How many blocks each buffer of an operation has at a member; `None` for a buffer that is not used.
struct Uses {
    send: Option<usize>,
    recv: Option<usize>,
}

impl Uses {
    fn of(kind: &CollectiveKind, me: usize, n: usize) -> Self {
        let at_root = |root: usize, blocks| (me == root).then_some(blocks);
        let (send, recv) = match *kind {
            CollectiveKind::AllReduce(_) => (Some(1), Some(1)),
            CollectiveKind::AllGather => (Some(1), Some(n)),
            CollectiveKind::ReduceScatter(_) => (Some(n), Some(1)),
            CollectiveKind::Broadcast { root } => (at_root(root, 1), Some(1)),
            CollectiveKind::Reduce { root, .. } => (Some(1), at_root(root, 1)),
            CollectiveKind::Gather { root } => (Some(1), at_root(root, n)),
            CollectiveKind::Scatter { root } => (at_root(root, n), Some(1)),
            CollectiveKind::AllToAll => (Some(n), Some(n)),
            CollectiveKind::Send { .. } => (Some(1), None),
            CollectiveKind::Receive { .. } => (None, Some(1)),
            CollectiveKind::Barrier => (None, None),
        };
        Uses { send, recv }
    }

    /// Elements of a block.
    fn block(&self, send: usize, recv: usize, element: usize) -> Result<usize, String> {
        let part = |len: usize, blocks: usize| {
            let whole = len.is_multiple_of(blocks * element);
            whole.then_some(len / blocks).ok_or_else(|| format!("{len} bytes are no {blocks} equal blocks"))
        };
        let bytes = match (self.send, self.recv) {
            (Some(from), Some(to)) => {
                let (from, to) = (part(send, from)?, part(recv, to)?);
                if from != to {
                    return Err(format!("{send} bytes in send do not fit {recv} bytes in recv"));
                }
                from
            }
            (Some(from), None) => part(send, from)?,
            (None, Some(to)) => part(recv, to)?,
            (None, None) => 0,
        };
        Ok(bytes / element)
    }

    /// Buffers may share memory only where the own block of one is the other.
    fn check_overlap(&self, send: Span, recv: Span, me: usize) -> Result<(), String> {
        let (Some(from), Some(to)) = (self.send, self.recv) else {
            return Ok(());
        };
        let own = |span: Span, blocks: usize| if blocks == 1 { span } else { span.block(me, blocks) };
        let apart =
            send.address() + send.len() <= recv.address() || recv.address() + recv.len() <= send.address();
        let in_place = own(send, from).address() == own(recv, to).address() && from.min(to) == 1;
        let fits = apart || in_place || send.len() == 0;
        fits.then_some(()).ok_or_else(|| "send and recv overlap".to_owned())
    }
}
