//! The collectives in terms of rounds.

use std::ops::Range;
use std::sync::Arc;

use mslite_tensor::{Buffer, Stream};

use super::group::SharedGroup;
use super::memory::Span;
use super::rounds::{Extent, Post, Running, Slot, Steps};
use super::signature::{Manner, Signature};
use super::staged::Transfer;
use crate::call::{Blocks, Call};
use crate::{Collective, CollectiveKind, CollectiveOp, Group, RegisteredMemory, Result};

impl Collective for SharedGroup {
    fn group(&self) -> &Group {
        &self.group
    }

    fn supports(&self, op: &CollectiveOp) -> bool {
        self.group.has_all_of(op)
    }

    fn start(&self, op: &CollectiveOp, send: &dyn Buffer, stream: &dyn Stream) -> Result<()> {
        let contributes = Blocks::of(&op.kind, self.group.rank, self.group.size()).send.is_some();
        if matches!(op.kind, CollectiveKind::Send { .. }) || !contributes {
            return Ok(());
        }
        let call = Call::on_host(op, &self.group, send, None, stream)?;
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
        let call = Call::on_host(op, &self.group, send, Some(recv), stream)?;
        let signature = Signature::new(&op.kind, call.dtype, call.count);
        match op.kind {
            CollectiveKind::Send { dest, .. } => {
                self.send(dest, &signature, call.send.unwrap_or(Span::EMPTY))
            }
            CollectiveKind::Receive { src, tag } => {
                self.receive(src, tag, &signature, call.recv.unwrap_or(Span::EMPTY))
            }
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

impl SharedGroup {
    fn dispatch(&self, kind: &CollectiveKind, call: &Call<Span>, running: &mut Running<'_>) -> Result<()> {
        let (me, n) = (self.group.rank, self.group.size());
        let block = call.count * call.dtype.size();
        let [send, recv] = [call.send, call.recv].map(|span| span.unwrap_or(Span::EMPTY));
        let tuning = &self.member.tuning;
        let transfer = Transfer { send, recv, dtype: call.dtype, block, me, n, tuning };
        if block >= tuning.direct && running.extent == Extent::Whole && !running.has_begun() {
            let post = transfer.post(kind, running);
            if post != Post::Copied || !transfer.is_accessed(kind) {
                let (round, manners) = running.post(post)?;
                if !manners.has(Manner::Started) && transfer.run_direct(kind, &round, running)? {
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
            running.rounds(
                Steps { total: longest, step: self.member.tuning.chunk },
                put,
                |range, round| {
                    for (member, out) in all.iter_mut().enumerate() {
                        let (start, end) = (out.len(), part(&range, lens[member] as usize).end);
                        out.resize(end.max(start), 0u8);
                        round.slot(member).room(out.len() - start).read(&mut out[start..]);
                    }
                    Ok(())
                },
            )?;
            Ok(all)
        })
    }
}
