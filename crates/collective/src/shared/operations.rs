//! The collectives in terms of rounds.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use mslite_tensor::{Buffer, DType, HostStream, Stream};

use super::group::SharedGroup;
use super::layout::CHUNK;
use super::memory::Span;
use super::rounds::{Extent, Post, Running, Slot, Steps};
use super::signature::Signature;
use super::staged::Transfer;
use crate::reduce;
use crate::{Collective, CollectiveKind, CollectiveOp, Error, Group, RegisteredMemory, Result};

/// Bytes of a block from which on members look at each other's buffers.
const DIRECT: usize = 512;

impl Collective for SharedGroup {
    fn group(&self) -> &Group {
        &self.group
    }

    fn supports(&self, op: &CollectiveOp) -> bool {
        self.group.answers_to(&op.group) && op.kind.peer().is_none_or(|peer| peer < self.group.size())
    }

    fn start(&self, op: &CollectiveOp, send: &dyn Buffer, stream: &dyn Stream) -> Result<()> {
        let contributes = Uses::of(&op.kind, self.group.rank, self.group.size()).send.is_some();
        if matches!(op.kind, CollectiveKind::Send { .. }) || !contributes {
            return Ok(());
        }
        let call = self.check(op, send, None, stream)?;
        let signature = Signature::new(&op.kind, call.dtype, call.count);
        self.collective(&signature, Extent::Start, |running| self.dispatch(&op.kind, &call, running))
    }

    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<()> {
        let call = self.check(op, send, Some(recv), stream)?;
        let signature = Signature::new(&op.kind, call.dtype, call.count);
        match op.kind {
            CollectiveKind::Send { dest, .. } => self.send(dest, &signature, call.send),
            CollectiveKind::Receive { src, tag } => self.receive(src, tag, &signature, call.recv),
            _ => {
                self.collective(&signature, Extent::Whole, |running| self.dispatch(&op.kind, &call, running))
            }
        }
    }

    fn allocate(&self, len: usize) -> Result<Option<RegisteredMemory>> {
        if self.member.is_one_process {
            return Ok(None);
        }
        let segment = Arc::new(self.member.allocate(len)?);
        Ok(Some(RegisteredMemory::new(segment.span().part(0..len).into(), segment)))
    }

    fn watch(&self, _: std::time::Duration) -> Result<()> {
        let operation = String::new;
        self.check_failures(&operation)?;
        let mut others = self.group.ranks.iter().filter(|&&rank| rank != self.member.rank);
        others.try_for_each(|&rank| self.member.check_alive(rank, &operation))
    }

    fn abort(&self) {
        let reason = format!("it gave up group {:?}", self.group.name.as_str());
        self.failure().set(&super::member::lost(self.member.rank, &reason, String::new()), self.member.rank);
    }
}

/// The checked arguments of an operation.
struct Call {
    send: Span,
    recv: Span,
    dtype: DType,
    /// Elements of a block: the same at all members.
    count: usize,
}

impl SharedGroup {
    /// Only what receives may be lacking, while an operation is started.
    fn check(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        given: Option<&dyn Buffer>,
        stream: &dyn Stream,
    ) -> Result<Call> {
        let recv = given.unwrap_or(send);
        let invalid = |why: String| Error::InvalidArgument(format!("{op}: {why}"));
        if !(stream as &dyn Any).is::<HostStream>() {
            return Err(Error::Unsupported(format!("{op} on a stream other than the host's: {stream:?}")));
        }
        let (Some(send_host), Some(recv_host)) = (send.host(), recv.host()) else {
            return Err(Error::Unsupported(format!("{op} on buffers that the host cannot address")));
        };
        if !self.group.answers_to(&op.group) {
            return Err(invalid(format!("this is group {:?}", self.group.name.as_str())));
        }
        if let Some(peer) = op.kind.peer().filter(|&peer| peer >= self.group.size()) {
            return Err(invalid(format!("there is no rank {peer} in a group of {}", self.group.size())));
        }
        let all = Uses::of(&op.kind, self.group.rank, self.group.size());
        let uses = Uses { recv: all.recv.filter(|_| given.is_some()), ..all };
        let dtype = if uses.send.is_some() { send.dtype() } else { recv.dtype() };
        if uses.recv.is_some() && recv.dtype() != dtype {
            return Err(invalid(format!("send is {dtype}, but recv is {}", recv.dtype())));
        }
        if let Some(reduction) = op.kind.reduction().filter(|&r| !reduce::supports(dtype, r)) {
            return Err(Error::Unsupported(format!("{op}: {reduction} of {dtype}")));
        }
        let (send, recv) = (Span::from(send_host), Span::from(recv_host));
        let count = uses.block(send.len(), recv.len(), dtype.size()).map_err(invalid)?;
        uses.check_overlap(send, recv, self.group.rank).map_err(invalid)?;
        Ok(Call { send, recv, dtype, count })
    }

    fn dispatch(&self, kind: &CollectiveKind, call: &Call, running: &mut Running<'_>) -> Result<()> {
        let (me, n) = (self.group.rank, self.group.size());
        let block = call.count * call.dtype.size();
        let transfer = Transfer { send: call.send, recv: call.recv, dtype: call.dtype, block, me, n };
        let is_direct = block >= DIRECT && running.extent == Extent::Whole;
        if is_direct && !running.has_begun() && !running.is_started_by_others() {
            let post = transfer.post(kind, running);
            if post != Post::Copied || !transfer.is_accessed(kind) {
                let round = running.post(post)?;
                if transfer.run_direct(kind, &round, running)? {
                    running.next_round();
                    return Ok(());
                }
            }
        }
        transfer.run_staged(kind, running)
    }

    /// Everybody's bytes, by rank.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let n = self.group.size();
        self.collective(&Signature::exchange(), Extent::Whole, |running| {
            let mut lens = vec![0u64; n];
            let put = |_: Range<usize>, slot: Slot| slot.room(8).write(&[bytes.len() as u64]);
            running.rounds(Steps { total: 8, step: 8 }, put, |_, round| {
                for (member, len) in lens.iter_mut().enumerate() {
                    round.slot(member).room(8).read(std::slice::from_mut(len));
                }
                Ok(())
            })?;
            let mut all = vec![Vec::new(); n];
            let longest = lens.iter().max().map_or(0, |&len| len as usize);
            let part = |range: &Range<usize>, len: usize| range.start.min(len)..range.end.min(len);
            let put = |range: Range<usize>, slot: Slot| {
                let mine = &bytes[part(&range, bytes.len())];
                slot.room(mine.len()).write(mine);
            };
            running.rounds(Steps { total: longest, step: CHUNK }, put, |range, round| {
                for (member, out) in all.iter_mut().enumerate() {
                    let (start, end) = (out.len(), part(&range, lens[member] as usize).end);
                    out.resize(end.max(start), 0u8);
                    round.slot(member).room(out.len() - start).read(&mut out[start..]);
                }
                Ok(())
            })?;
            Ok(all)
        })
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
        let in_place = own(send, from).address() == own(recv, to).address() && from.min(to) == 1;
        let fits = !send.overlaps(recv) || in_place;
        fits.then_some(()).ok_or_else(|| "send and recv overlap".to_owned())
    }
}
