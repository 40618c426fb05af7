//! Collectives on copies in slots.

use std::ops::Range;

use mslite_tensor::DType;

use super::memory::Span;
use super::rounds::{Round, Running, Slot, Steps};
use crate::reduce::Combine;
use crate::{CollectiveKind, Reduction, Result, Tuning};

/// Where the bytes of an operation are.
pub(super) struct Transfer<'a> {
    pub(super) send: Span,
    pub(super) recv: Span,
    pub(super) dtype: DType,
    /// Bytes of a block.
    pub(super) block: usize,
    pub(super) me: usize,
    pub(super) n: usize,
    pub(super) tuning: &'a Tuning,
}

impl Transfer<'_> {
    pub(super) fn run_staged(&self, kind: &CollectiveKind, running: &mut Running<'_>) -> Result<()> {
        match *kind {
            CollectiveKind::AllReduce(reduction) => self.all_reduce(reduction, running),
            CollectiveKind::AllGather => self.gather(None, running),
            CollectiveKind::ReduceScatter(reduction) => self.reduce_scatter(reduction, running),
            CollectiveKind::Broadcast { root } => self.broadcast(root, running),
            CollectiveKind::Reduce { root, reduction } => self.reduce(root, reduction, running),
            CollectiveKind::Gather { root } => self.gather(Some(root), running),
            CollectiveKind::Scatter { root } => self.scatter(root, running),
            CollectiveKind::AllToAll => self.all_to_all(running),
            CollectiveKind::Barrier => {
                running.rounds(self.steps(self.tuning.chunk), |_, _| (), |_, _| Ok(()))
            }
            CollectiveKind::Send { .. } | CollectiveKind::Receive { .. } => Ok(()),
        }
    }

    fn all_reduce(&self, reduction: Reduction, running: &mut Running<'_>) -> Result<()> {
        let (steps, combine) = (self.steps(self.tuning.chunk), self.combine(reduction));
        let put = |range: Range<usize>, slot: Slot| slot.room(range.len()).copy_from(self.send.part(range));
        let mut publish = put;
        if running.meet_first(steps, &mut publish)? || self.block <= self.tuning.one_shot {
            return running.rounds_after_first(steps, put, |range, round| {
                self.combine_all(&combine, &range, round);
                Ok(())
            });
        }
        let first = |range: Range<usize>, round: &Round<'_>| self.reduce_part(&combine, &range, round);
        let second = |range: Range<usize>, round: &Round<'_>| self.collect_parts(&range, round);
        running.rounds_of_two_parts(steps, put, first, second)
    }

    /// The part of so many bytes that a member reduces for all: whole lines, but for the last.
    pub(super) fn part(&self, member: usize, len: usize) -> Range<usize> {
        let share = len.div_ceil(self.n).next_multiple_of(64);
        (member * share).min(len)..((member + 1) * share).min(len)
    }

    /// Reduces this rank's part of a chunk, for itself and in the own slot.
    fn reduce_part(&self, combine: &Combine, range: &Range<usize>, round: &Round<'_>) {
        let (len, part) = (range.len(), self.part(self.me, range.len()));
        let (mine, here) = (self.send.part(range.clone()), self.recv.part(range.clone()));
        let source = |rank| match rank == self.me {
            true => mine.part(part.clone()),
            false => round.slot(rank).room(len).part(part.clone()),
        };
        let outs = [round.slot(self.me).room(len), here];
        combine.run(&source, 2, &|n| outs[n].part(part.clone()));
    }

    fn collect_parts(&self, range: &Range<usize>, round: &Round<'_>) {
        let recv = self.recv.part(range.clone());
        for rank in (0..self.n).filter(|&rank| rank != self.me) {
            let part = self.part(rank, range.len());
            recv.part(part.clone()).copy_from(round.slot(rank).room(range.len()).part(part));
        }
    }

    fn reduce(&self, root: usize, reduction: Reduction, running: &mut Running<'_>) -> Result<()> {
        let combine = self.combine(reduction);
        let put = |range: Range<usize>, slot: Slot| {
            if self.me != root {
                slot.room(range.len()).copy_from(self.send.part(range));
            }
        };
        running.rounds(self.steps(self.tuning.chunk), put, |range, round| {
            if self.me == root {
                self.combine_all(&combine, &range, round);
            }
            Ok(())
        })
    }

    /// Reduces a range of everybody's `send`; the own one needs no slot.
    fn combine_all(&self, combine: &Combine, range: &Range<usize>, round: &Round<'_>) {
        let source = |rank: usize| match rank == self.me {
            true => self.send.part(range.clone()),
            false => round.slot(rank).room(range.len()),
        };
        combine.run(&source, 1, &|_| self.recv.part(range.clone()));
    }

    fn gather(&self, root: Option<usize>, running: &mut Running<'_>) -> Result<()> {
        let takes = root.is_none_or(|root| root == self.me);
        let put = |range: Range<usize>, slot: Slot| {
            if root != Some(self.me) {
                slot.room(range.len()).copy_from(self.send.part(range));
            }
        };
        running.rounds(self.steps(self.tuning.chunk), put, |range, round| {
            for rank in (0..self.n).filter(|_| takes) {
                let out = self.recv.block(rank, self.n).part(range.clone());
                out.copy_from(match rank == self.me {
                    true => self.send.part(range.clone()),
                    false => round.slot(rank).room(range.len()),
                });
            }
            Ok(())
        })
    }

    fn broadcast(&self, root: usize, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, slot: Slot| {
            if self.me == root {
                slot.room(range.len()).copy_from(self.send.part(range));
            }
        };
        running.rounds(self.steps(self.tuning.chunk), put, |range, round| {
            let out = self.recv.part(range.clone());
            out.copy_from(match self.me == root {
                true => self.send.part(range),
                false => round.slot(root).room(range.len()),
            });
            Ok(())
        })
    }

    fn reduce_scatter(&self, reduction: Reduction, running: &mut Running<'_>) -> Result<()> {
        let combine = self.combine(reduction);
        let put = |range: Range<usize>, slot: Slot| self.put_blocks(range, slot);
        running.rounds(self.steps(self.share()), put, |range, round| {
            let source = |rank| self.block_from(rank, &range, round);
            combine.run(&source, 1, &|_| self.recv.part(range.clone()));
            Ok(())
        })
    }

    fn all_to_all(&self, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, slot: Slot| self.put_blocks(range, slot);
        running.rounds(self.steps(self.share()), put, |range, round| {
            for rank in 0..self.n {
                let out = self.recv.block(rank, self.n).part(range.clone());
                out.copy_from(self.block_from(rank, &range, round));
            }
            Ok(())
        })
    }

    fn scatter(&self, root: usize, running: &mut Running<'_>) -> Result<()> {
        let put = |range: Range<usize>, slot: Slot| {
            if self.me == root {
                self.put_blocks(range, slot);
            }
        };
        running.rounds(self.steps(self.share()), put, |range, round| {
            self.recv.part(range.clone()).copy_from(self.block_from(root, &range, round));
            Ok(())
        })
    }

    fn steps(&self, step: usize) -> Steps {
        Steps { total: self.block, step }
    }

    fn combine(&self, reduction: Reduction) -> Combine {
        Combine { dtype: self.dtype, reduction, ranks: self.n, streams: false }
    }

    /// Bytes of each block that fit a chunk together with the other blocks'.
    fn share(&self) -> usize {
        self.tuning.chunk / self.n / 64 * 64
    }

    /// Publishes a range of every block but the own one.
    fn put_blocks(&self, range: Range<usize>, slot: Slot) {
        for rank in (0..self.n).filter(|&rank| rank != self.me) {
            let source = self.send.block(rank, self.n).part(range.clone());
            slot.chunk().part(self.share() * rank..self.share() * rank + range.len()).copy_from(source);
        }
    }

    /// The range of the block that `rank` has for this one.
    fn block_from(&self, rank: usize, range: &Range<usize>, round: &Round<'_>) -> Span {
        if rank == self.me {
            return self.send.block(rank, self.n).part(range.clone());
        }
        let start = self.share() * self.me;
        round.slot(rank).chunk().part(start..start + range.len())
    }
}
