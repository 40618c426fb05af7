//! What an operation is given, checked.

use std::any::Any;

use mslite_tensor::{Buffer, DType, HostStream, Stream};

use crate::shared::Span;
use crate::{CollectiveKind, CollectiveOp, Error, Group, Result, reduce};

/// The arguments of an operation, in memory of the kind `P`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<P> {
    /// What this rank gives, if it gives something.
    pub(crate) send: Option<P>,
    /// What this rank gets, if it gets something.
    pub(crate) recv: Option<P>,
    pub(crate) dtype: DType,
    /// Elements of a block: the same at all members.
    pub(crate) count: usize,
}

/// Where a buffer is.
pub(crate) trait Place: Copy {
    fn address(self) -> usize;
    fn len(self) -> usize;
}

impl Place for Span {
    fn address(self) -> usize {
        Span::address(self)
    }

    fn len(self) -> usize {
        Span::len(self)
    }
}

impl Call<Span> {
    /// The arguments in host memory, if they are as [`Collective::enqueue`](crate::Collective::enqueue) wants them. What
    /// receives is lacking while an operation is only started.
    #[inline(always)]
    pub(crate) fn on_host(
        op: &CollectiveOp,
        group: &Group,
        send: &dyn Buffer,
        recv: Option<&dyn Buffer>,
        stream: &dyn Stream,
    ) -> Result<Self> {
        if !(stream as &dyn Any).is::<HostStream>() {
            return Err(Error::Unsupported(format!("{op} on a stream other than the host's: {stream:?}")));
        }
        Call::new(op, group, send, recv, |buffer| {
            let host = buffer.host().map(Span::from);
            host.ok_or_else(|| Error::Unsupported(format!("{op} on buffers that the host cannot address")))
        })
    }
}

impl<P: Place> Call<P> {
    /// The arguments, where `place` says that the buffers are.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] and [`Error::Unsupported`], alike at all members that ask alike.
    #[inline(always)]
    pub(crate) fn new(
        op: &CollectiveOp,
        group: &Group,
        send: &dyn Buffer,
        recv: Option<&dyn Buffer>,
        place: impl Fn(&dyn Buffer) -> Result<P>,
    ) -> Result<Self> {
        let invalid = |why: String| Error::InvalidArgument(format!("{op}: {why}"));
        check_members(group, op).map_err(invalid)?;
        let all = Blocks::of(&op.kind, group.rank, group.size());
        let blocks = Blocks { recv: all.recv.filter(|_| recv.is_some()), ..all };
        let recv = recv.unwrap_or(send);
        let dtype = if blocks.send.is_some() { send.dtype() } else { recv.dtype() };
        if blocks.recv.is_some() && recv.dtype() != dtype {
            return Err(invalid(format!("send is {dtype}, but recv is {}", recv.dtype())));
        }
        if let Some(reduction) = op.kind.reduction().filter(|&r| !reduce::supports(dtype, r)) {
            return Err(Error::Unsupported(format!("{op}: {reduction} of {dtype}")));
        }
        let send = blocks.send.map(|_| place(send)).transpose()?;
        let recv = blocks.recv.map(|_| place(recv)).transpose()?;
        let count = blocks.count(send, recv, dtype.size()).map_err(invalid)?;
        blocks.check_overlap(send, recv, group.rank).map_err(invalid)?;
        Ok(Call { send, recv, dtype, count })
    }
}

#[inline]
fn check_members(group: &Group, op: &CollectiveOp) -> Result<(), String> {
    if !group.answers_to(&op.group) {
        return Err(format!("this is group {:?}", group.name.as_str()));
    }
    match op.kind.peer().filter(|&peer| peer >= group.size()) {
        Some(peer) => Err(format!("there is no rank {peer} in a group of {}", group.size())),
        None => Ok(()),
    }
}

/// How many blocks each buffer of an operation has at a member; `None` for a buffer that is not used.
pub(crate) struct Blocks {
    pub(crate) send: Option<usize>,
    pub(crate) recv: Option<usize>,
}

impl Blocks {
    #[inline]
    pub(crate) fn of(kind: &CollectiveKind, me: usize, n: usize) -> Self {
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
        Blocks { send, recv }
    }

    /// Elements of a block.
    #[inline]
    fn count<P: Place>(&self, send: Option<P>, recv: Option<P>, element: usize) -> Result<usize, String> {
        let block = |place: Option<P>, blocks: Option<usize>| -> Result<Option<usize>, String> {
            let (Some(len), Some(blocks)) = (place.map(P::len), blocks) else { return Ok(None) };
            let whole = len.is_multiple_of(blocks * element);
            whole
                .then_some(Some(len / blocks))
                .ok_or_else(|| format!("{len} bytes are no {blocks} equal blocks"))
        };
        let (from, to) = (block(send, self.send)?, block(recv, self.recv)?);
        match (from, to) {
            (Some(from), Some(to)) if from != to => {
                Err(format!("blocks of {from} bytes in send do not fit blocks of {to} bytes in recv"))
            }
            _ => Ok(from.or(to).unwrap_or(0) / element),
        }
    }

    /// Buffers may share memory only where the own block of one is the other.
    #[inline]
    fn check_overlap<P: Place>(&self, send: Option<P>, recv: Option<P>, me: usize) -> Result<(), String> {
        let (Some(from), Some(to), Some(send), Some(recv)) = (self.send, self.recv, send, recv) else {
            return Ok(());
        };
        let own = |place: P, blocks: usize| match blocks {
            1 => place.address(),
            _ => place.address() + place.len() / blocks * me,
        };
        let apart =
            send.address() + send.len() <= recv.address() || recv.address() + recv.len() <= send.address();
        let in_place = own(send, from) == own(recv, to) && from.min(to) == 1;
        let fits = apart || in_place || send.len() == 0;
        fits.then_some(()).ok_or_else(|| "send and recv overlap".to_owned())
    }
}
