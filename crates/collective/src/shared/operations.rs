//! The collectives in terms of rounds.

use std::any::Any;
use std::ops::Range;

use mslite_tensor::{Buffer, DType, HostStream, Stream};

use super::channel::{Extent, Round, Running, SharedGroup};
use super::layout::CHUNK;
use super::memory::Span;
use super::signature::Signature;
use crate::reduce::{self, Combine};
use crate::{Collective, CollectiveKind, CollectiveOp, Error, Group, Result};

/// Largest contribution that every rank reduces for itself in groups of more than two, in bytes; above it, each
/// reduces a part and reads the others' parts.
const ONE_SHOT: usize = 8 << 10;

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
        let reducing = |reduction| Combine { dtype: call.dtype, reduction, ranks: n };
        let transfer =
            Transfer { send: call.send, recv: call.recv, block: call.count * call.dtype.size(), me, n };
        match *kind {
            CollectiveKind::AllReduce(reduction) => transfer.all_reduce(&reducing(reduction), running),
            CollectiveKind::AllGather => transfer.gather(None, running),
            CollectiveKind::ReduceScatter(reduction) => {
                transfer.reduce_scatter(&reducing(reduction), running)
            }
            CollectiveKind::Broadcast { root } => transfer.broadcast(root, running),
            CollectiveKind::Reduce { root, reduction } => {
                transfer.reduce(root, &reducing(reduction), running)
            }
            CollectiveKind::Gather { root } => transfer.gather(Some(root), running),
            CollectiveKind::Scatter { root } => transfer.scatter(root, running),
            CollectiveKind::AllToAll => transfer.all_to_all(running),
            CollectiveKind::Barrier => running.rounds(0, CHUNK, |_, _| (), |_, _| Ok(())),
            CollectiveKind::Send { .. } | CollectiveKind::Receive { .. } => Ok(()),
        }
    }

    /// Everybody's bytes, by rank.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let n = self.group.size();
        self.collective(&Signature::exchange(), Extent::Whole, |running| {
            let mut lens = vec![0u64; n];
            let put = |_: Range<usize>, chunk: Span| chunk.part(0..8).write(&[bytes.len() as u64]);
            running.rounds(8, 8, put, |_, round| {
                for (member, len) in lens.iter_mut().enumerate() {
                    round.chunk(member).part(0..8).read(std::slice::from_mut(len));
                }
                Ok(())
            })?;
            let mut all = vec![Vec::new(); n];
            let longest = lens.iter().max().map_or(0, |&len| len as usize);
            let part = |range: &Range<usize>, len: usize| range.start.min(len)..range.end.min(len);
            let put = |range: Range<usize>, chunk: Span| {
                let mine = &bytes[part(&range, bytes.len())];
                chunk.part(0..mine.len()).write(mine);
            };
            running.rounds(longest, CHUNK, put, |range, round| {
                for (member, out) in all.iter_mut().enumerate() {
                    let (start, end) = (out.len(), part(&range, lens[member] as usize).end);
                    out.resize(end.max(start), 0u8);
                    round.chunk(member).part(0..out.len() - start).read(&mut out[start..]);
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
        let apart =
            send.address() + send.len() <= recv.address() || recv.address() + recv.len() <= send.address();
        let in_place = own(send, from).address() == own(recv, to).address() && from.min(to) == 1;
        let fits = apart || in_place || send.len() == 0;
        fits.then_some(()).ok_or_else(|| "send and recv overlap".to_owned())
    }
}

/// Where the bytes of an operation are.
struct Transfer {
    send: Span,
    recv: Span,
    /// Bytes of a block.
    block: usize,
    me: usize,
    n: usize,
}

impl Transfer {
    fn all_reduce(&self, combine: &Combine, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, chunk: Span| {
            chunk.part(0..range.len()).copy_from(self.send.part(range));
        };
        if self.n <= 2 || self.block <= ONE_SHOT {
            running.rounds(self.block, CHUNK, put, |range, round| {
                self.combine_all(combine, &range, round, self.recv.part(range.clone()));
                Ok(())
            })
        } else {
            running.rounds(self.block, CHUNK, put, |range, round| self.reduce_parts(combine, range, round))
        }
    }

    /// Reduces this rank's part of a chunk in the own slot, then collects everybody's parts.
    fn reduce_parts(&self, combine: &Combine, range: Range<usize>, round: &Round<'_>) -> Result<()> {
        let share = range.len().div_ceil(self.n).next_multiple_of(64);
        let part = |rank: usize| (rank * share).min(range.len())..((rank + 1) * share).min(range.len());
        let mine = part(self.me);
        combine.run(&|rank| round.chunk(rank).part(mine.clone()), round.chunk(self.me).part(mine.clone()));
        round.meet_reduced()?;
        let recv = self.recv.part(range.clone());
        for rank in 0..self.n {
            recv.part(part(rank)).copy_from(round.chunk(rank).part(part(rank)));
        }
        Ok(())
    }

    fn reduce(&self, root: usize, combine: &Combine, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, chunk: Span| {
            if self.me != root {
                chunk.part(0..range.len()).copy_from(self.send.part(range));
            }
        };
        running.rounds(self.block, CHUNK, put, |range, round| {
            if self.me == root {
                self.combine_all(combine, &range, round, self.recv.part(range.clone()));
            }
            Ok(())
        })
    }

    /// Reduces a range of everybody's `send`; the own one needs no slot.
    fn combine_all(&self, combine: &Combine, range: &Range<usize>, round: &Round<'_>, out: Span) {
        let source = |rank: usize| match rank == self.me {
            true => self.send.part(range.clone()),
            false => round.chunk(rank).part(0..range.len()),
        };
        combine.run(&source, out);
    }

    fn gather(&self, root: Option<usize>, running: &mut Running<'_>) -> Result<()> {
        let takes = root.is_none_or(|root| root == self.me);
        let put = |range: Range<usize>, chunk: Span| {
            if root != Some(self.me) {
                chunk.part(0..range.len()).copy_from(self.send.part(range));
            }
        };
        running.rounds(self.block, CHUNK, put, |range, round| {
            for rank in (0..self.n).filter(|_| takes) {
                let out = self.recv.block(rank, self.n).part(range.clone());
                out.copy_from(match rank == self.me {
                    true => self.send.part(range.clone()),
                    false => round.chunk(rank).part(0..range.len()),
                });
            }
            Ok(())
        })
    }

    fn broadcast(&self, root: usize, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, chunk: Span| {
            if self.me == root {
                chunk.part(0..range.len()).copy_from(self.send.part(range));
            }
        };
        running.rounds(self.block, CHUNK, put, |range, round| {
            let out = self.recv.part(range.clone());
            out.copy_from(match self.me == root {
                true => self.send.part(range),
                false => round.chunk(root).part(0..range.len()),
            });
            Ok(())
        })
    }

    fn reduce_scatter(&self, combine: &Combine, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, chunk: Span| self.put_blocks(range, chunk);
        running.rounds(self.block, self.share(), put, |range, round| {
            combine.run(&|rank| self.block_from(rank, &range, round), self.recv.part(range.clone()));
            Ok(())
        })
    }

    fn all_to_all(&self, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, chunk: Span| self.put_blocks(range, chunk);
        running.rounds(self.block, self.share(), put, |range, round| {
            for rank in 0..self.n {
                let out = self.recv.block(rank, self.n).part(range.clone());
                out.copy_from(self.block_from(rank, &range, round));
            }
            Ok(())
        })
    }

    fn scatter(&self, root: usize, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, chunk: Span| {
            if self.me == root {
                self.put_blocks(range, chunk);
            }
        };
        running.rounds(self.block, self.share(), put, |range, round| {
            self.recv.part(range.clone()).copy_from(self.block_from(root, &range, round));
            Ok(())
        })
    }

    /// Bytes of each block that fit a chunk together with the other blocks'.
    fn share(&self) -> usize {
        CHUNK / self.n / 64 * 64
    }

    /// Publishes a range of every block but the own one.
    fn put_blocks(&self, range: Range<usize>, chunk: Span) {
        for rank in (0..self.n).filter(|&rank| rank != self.me) {
            let source = self.send.block(rank, self.n).part(range.clone());
            chunk.part(self.share() * rank..self.share() * rank + range.len()).copy_from(source);
        }
    }

    /// The range of the block that `rank` has for this one.
    fn block_from(&self, rank: usize, range: &Range<usize>, round: &Round<'_>) -> Span {
        if rank == self.me {
            return self.send.block(rank, self.n).part(range.clone());
        }
        let start = self.share() * self.me;
        round.chunk(rank).part(start..start + range.len())
    }
}
