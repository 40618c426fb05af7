//! The collectives as steps, in each of which members send each other parts of their buffers.

use std::ops::Range;

use crate::call::Call;
use crate::reduce::Combine;
use crate::shared::Span;
use crate::{CollectiveKind, TransportKind};

/// Largest contribution, in bytes, that goes to all members at once; larger ones are shared out among them. It travels
/// with the comparison of the operation.
pub(super) const ONE_SHOT: usize = TransportKind::Mpi.send_capacity();

/// Largest message, in bytes; in large groups it is smaller, so that what is under way does not grow with them.
const LARGEST_MESSAGE: usize = 256 << 10;

/// Bytes that a member has under way in a step.
const STEP: usize = 1 << 20;

/// What members send each other, step by step. All agree on the number of steps and on all lengths.
pub(super) trait Plan {
    /// Number of steps, at least one.
    fn steps(&self) -> usize;

    /// Largest message of any member in any step.
    fn largest(&self) -> usize;

    /// Number of steps that have ended before one begins.
    fn needs(&self, step: usize) -> usize;

    /// What goes to a member in a step.
    fn outgoing(&self, step: usize, to: usize) -> Option<Span>;

    /// Number of bytes that come from a member in a step.
    fn incoming(&self, step: usize, from: usize) -> Option<usize>;

    /// Uses what has come from the others in a step.
    fn take(&self, step: usize, from: &dyn Fn(usize) -> Span);
}

/// A collective on the buffers of this member.
pub(super) struct Transfer<'a> {
    kind: &'a CollectiveKind,
    send: Span,
    recv: Span,
    combine: Option<Combine>,
    /// Bytes of a block.
    block: usize,
    me: usize,
    n: usize,
    /// Most bytes of a message.
    message: usize,
    /// Room for a message: what a member has reduced for the root.
    scratch: Span,
}

/// A part of the way of an operation that is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Members get the parts that they are in charge of.
    Spread,
    /// Members give their parts to those who want them.
    Collect,
}

/// Most bytes of a message in a group of `n`.
pub(super) fn largest_message(n: usize) -> usize {
    (STEP / n / 64 * 64).clamp(ONE_SHOT, LARGEST_MESSAGE)
}

impl<'a> Transfer<'a> {
    /// The collective `kind` at member `me` of `n`; `scratch` has [`largest_message`] bytes.
    pub(super) fn new(
        kind: &'a CollectiveKind,
        call: &Call<Span>,
        me: usize,
        n: usize,
        scratch: Span,
    ) -> Self {
        let combine = kind.reduction().map(|reduction| Combine {
            dtype: call.dtype,
            reduction,
            ranks: n,
            streams: false,
        });
        let block = call.count * call.dtype.size();
        let message = largest_message(n);
        let [send, recv] = [call.send, call.recv].map(|span| span.unwrap_or(Span::EMPTY));
        Transfer { kind, send, recv, combine, block, me, n, message, scratch }
    }

    /// Whether members share out the work, instead of sending everything where it is wanted.
    fn is_shared_out(&self) -> bool {
        self.block > ONE_SHOT
            && match self.kind {
                CollectiveKind::AllReduce(_) => self.n > 1,
                CollectiveKind::Reduce { .. } | CollectiveKind::Broadcast { .. } => self.n > 2,
                _ => false,
            }
    }

    /// Bytes of a block that one step is about.
    fn stride(&self) -> usize {
        if self.is_shared_out() { self.message * self.n } else { self.message }
    }

    fn chunks(&self) -> usize {
        self.block.div_ceil(self.stride()).max(1)
    }

    fn chunk(&self, index: usize) -> Range<usize> {
        let start = (index * self.stride()).min(self.block);
        start..self.block.min(start + self.stride())
    }

    /// What a step is about. Chunks are spread one ahead of those that are collected.
    fn place(&self, step: usize) -> (Phase, usize) {
        match step {
            _ if !self.is_shared_out() => (Phase::Spread, step),
            0 => (Phase::Spread, 0),
            _ if step == 2 * self.chunks() - 1 => (Phase::Collect, self.chunks() - 1),
            _ if step.is_multiple_of(2) => (Phase::Collect, step / 2 - 1),
            _ => (Phase::Spread, step / 2 + 1),
        }
    }

    /// The part of a chunk that a member is in charge of.
    fn part(&self, chunk: &Range<usize>, member: usize) -> Range<usize> {
        let share = chunk.len().div_ceil(self.n).next_multiple_of(64);
        let at = |member: usize| chunk.start + (member * share).min(chunk.len());
        at(member)..at(member + 1)
    }

    fn root(&self) -> Option<usize> {
        match *self.kind {
            CollectiveKind::Broadcast { root }
            | CollectiveKind::Reduce { root, .. }
            | CollectiveKind::Gather { root }
            | CollectiveKind::Scatter { root } => Some(root),
            _ => None,
        }
    }

    /// What `from` sends to `to` in a step: a range of a block, and of which one, if there are several.
    fn flow(&self, step: usize, from: usize, to: usize) -> Option<Range<usize>> {
        let (phase, index) = self.place(step);
        let chunk = self.chunk(index);
        let range = match (self.is_shared_out(), phase) {
            (false, _) => self.goes(from, to).then_some(chunk),
            (true, Phase::Spread) => self.spreads(from).then(|| self.part(&chunk, to)),
            (true, Phase::Collect) => self.collects(to).then(|| self.part(&chunk, from)),
        };
        range.filter(|range| !range.is_empty() && from != to)
    }

    fn goes(&self, from: usize, to: usize) -> bool {
        match *self.kind {
            CollectiveKind::Gather { root } | CollectiveKind::Reduce { root, .. } => to == root,
            CollectiveKind::Broadcast { root } | CollectiveKind::Scatter { root } => from == root,
            CollectiveKind::Barrier | CollectiveKind::Send { .. } | CollectiveKind::Receive { .. } => false,
            _ => true,
        }
    }

    fn spreads(&self, from: usize) -> bool {
        !matches!(self.kind, CollectiveKind::Broadcast { .. }) || self.root() == Some(from)
    }

    fn collects(&self, to: usize) -> bool {
        match *self.kind {
            CollectiveKind::Broadcast { root } => to != root,
            CollectiveKind::Reduce { root, .. } => to == root,
            _ => true,
        }
    }

    /// Whether `send` has a block for each member.
    fn has_blocks(&self) -> bool {
        use CollectiveKind::{AllToAll, ReduceScatter, Scatter};
        matches!(self.kind, ReduceScatter(_) | Scatter { .. } | AllToAll)
    }

    fn sent(&self, to: usize) -> Span {
        if self.has_blocks() { self.send.block(to, self.n) } else { self.send }
    }

    /// Uses the chunk of an operation that is not shared out.
    fn take_chunk(&self, chunk: &Range<usize>, from: &dyn Fn(usize) -> Span) {
        let source = |rank: usize| match rank == self.me {
            true => self.sent(self.me).part(chunk.clone()),
            false => from(rank),
        };
        match *self.kind {
            CollectiveKind::Barrier | CollectiveKind::Send { .. } | CollectiveKind::Receive { .. } => {}
            CollectiveKind::Gather { root } | CollectiveKind::Reduce { root, .. } if root != self.me => {}
            CollectiveKind::AllGather | CollectiveKind::Gather { .. } | CollectiveKind::AllToAll => {
                for rank in 0..self.n {
                    self.recv.block(rank, self.n).part(chunk.clone()).copy_from(source(rank));
                }
            }
            CollectiveKind::Broadcast { root } | CollectiveKind::Scatter { root } => {
                self.recv.part(chunk.clone()).copy_from(source(root));
            }
            CollectiveKind::AllReduce(_)
            | CollectiveKind::ReduceScatter(_)
            | CollectiveKind::Reduce { .. } => {
                self.reduce(&source, self.recv.part(chunk.clone()));
            }
        }
    }

    fn take_part(&self, chunk: &Range<usize>, from: &dyn Fn(usize) -> Span) {
        let mine = self.part(chunk, self.me);
        if mine.is_empty() {
            return;
        }
        match self.root() {
            Some(root) if self.combine.is_none() => {
                if root != self.me {
                    self.recv.part(mine).copy_from(from(root));
                }
            }
            _ => {
                let source = |rank: usize| match rank == self.me {
                    true => self.send.part(mine.clone()),
                    false => from(rank),
                };
                self.reduce(&source, self.reduced(mine.clone()));
            }
        }
    }

    /// Where what this member has reduced lies.
    fn reduced(&self, mine: Range<usize>) -> Span {
        match *self.kind {
            CollectiveKind::Reduce { root, .. } if root != self.me => self.scratch.part(0..mine.len()),
            _ => self.recv.part(mine),
        }
    }

    fn take_parts(&self, chunk: &Range<usize>, from: &dyn Fn(usize) -> Span) {
        if !self.collects(self.me) {
            if self.root() == Some(self.me) {
                self.recv.part(chunk.clone()).copy_from(self.send.part(chunk.clone()));
            }
            return;
        }
        for rank in (0..self.n).filter(|&rank| rank != self.me) {
            let part = self.part(chunk, rank);
            if !part.is_empty() {
                self.recv.part(part).copy_from(from(rank));
            }
        }
    }

    fn reduce(&self, source: &dyn Fn(usize) -> Span, out: Span) {
        if let Some(combine) = self.combine {
            combine.run(source, 1, &|_| out);
        }
    }
}

impl Plan for Transfer<'_> {
    fn steps(&self) -> usize {
        if self.is_shared_out() { 2 * self.chunks() } else { self.chunks() }
    }

    fn largest(&self) -> usize {
        self.block.min(self.message)
    }

    fn needs(&self, step: usize) -> usize {
        match self.place(step) {
            // The step in which the same chunk was spread, and all before it.
            (Phase::Collect, chunk) => (2 * chunk).max(1),
            (Phase::Spread, _) => 0,
        }
    }

    fn outgoing(&self, step: usize, to: usize) -> Option<Span> {
        let range = self.flow(step, self.me, to)?;
        let is_source = self.root() == Some(self.me) && self.combine.is_none();
        Some(match self.place(step).0 {
            Phase::Collect if !is_source => self.reduced(range),
            _ => self.sent(to).part(range),
        })
    }

    fn incoming(&self, step: usize, from: usize) -> Option<usize> {
        self.flow(step, from, self.me).map(|range| range.len())
    }

    fn take(&self, step: usize, from: &dyn Fn(usize) -> Span) {
        let (phase, index) = self.place(step);
        let chunk = self.chunk(index);
        match (self.is_shared_out(), phase) {
            (false, _) => self.take_chunk(&chunk, from),
            (true, Phase::Spread) => self.take_part(&chunk, from),
            (true, Phase::Collect) => self.take_parts(&chunk, from),
        }
    }
}

/// Everybody's bytes to everybody; lengths differ.
pub(super) struct Gossip<'a> {
    pub(super) mine: Span,
    /// Where each member's bytes go, this one's included.
    pub(super) all: &'a [Span],
    pub(super) me: usize,
}

impl Gossip<'_> {
    fn chunk(&self, step: usize, len: usize) -> Range<usize> {
        let message = largest_message(self.all.len());
        (step * message).min(len)..((step + 1) * message).min(len)
    }

    fn longest(&self) -> usize {
        self.all.iter().map(|span| span.len()).max().unwrap_or(0)
    }
}

impl Plan for Gossip<'_> {
    fn steps(&self) -> usize {
        self.longest().div_ceil(largest_message(self.all.len())).max(1)
    }

    fn largest(&self) -> usize {
        self.longest().min(largest_message(self.all.len()))
    }

    fn needs(&self, _: usize) -> usize {
        0
    }

    fn outgoing(&self, step: usize, to: usize) -> Option<Span> {
        let range = self.chunk(step, self.mine.len());
        (to != self.me && !range.is_empty()).then(|| self.mine.part(range))
    }

    fn incoming(&self, step: usize, from: usize) -> Option<usize> {
        let range = self.chunk(step, self.all[from].len());
        (from != self.me && !range.is_empty()).then(|| range.len())
    }

    fn take(&self, step: usize, from: &dyn Fn(usize) -> Span) {
        for (rank, out) in self.all.iter().enumerate() {
            let range = self.chunk(step, out.len());
            if range.is_empty() {
                continue;
            }
            let source = if rank == self.me { self.mine.part(range.clone()) } else { from(rank) };
            out.part(range).copy_from(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mslite_tensor::DType;

    use super::*;
    use crate::Reduction;

    fn value(rank: usize, i: usize) -> u32 {
        (rank as u32 + 3).wrapping_mul(0x9e37_79b9).wrapping_add(i as u32)
    }

    fn span(values: &mut [u32]) -> Span {
        Span::of_slice(bytemuck::cast_slice_mut(values))
    }

    /// Takes the steps of all members as they do, with two under way.
    fn run(plans: &[Transfer<'_>]) {
        let steps = plans[0].steps();
        let mut under_way = BTreeMap::new();
        let mut done = 0;
        let finish = |under_way: &mut BTreeMap<(usize, usize, usize), Vec<u8>>, step: usize| {
            for (me, plan) in plans.iter().enumerate() {
                let mut come: Vec<Vec<u8>> = (0..plans.len())
                    .map(|from| under_way.remove(&(step, from, me)).unwrap_or_default())
                    .collect();
                let lens =
                    come.iter().enumerate().map(|(from, bytes)| (plan.incoming(step, from), bytes.len()));
                assert!(lens.into_iter().all(|(wanted, came)| wanted.unwrap_or(0) == came));
                let come: Vec<Span> = come.iter_mut().map(|bytes| Span::of_slice(bytes)).collect();
                plan.take(step, &|from| come[from]);
            }
        };
        for step in 0..steps {
            while done < plans[0].needs(step) || step - done == 2 {
                finish(&mut under_way, done);
                done += 1;
            }
            for (me, plan) in plans.iter().enumerate() {
                assert_eq!((plan.steps(), plan.needs(step)), (steps, plans[0].needs(step)));
                for to in (0..plans.len()).filter(|&to| to != me) {
                    if let Some(data) = plan.outgoing(step, to) {
                        assert!(data.len() <= plan.largest());
                        let mut bytes = vec![0; data.len()];
                        data.read(&mut bytes);
                        under_way.insert((step, me, to), bytes);
                    }
                }
            }
        }
        (done..steps).for_each(|step| finish(&mut under_way, step));
        assert!(under_way.is_empty());
    }

    type Element = Box<dyn Fn(usize) -> u32>;

    /// Blocks of `send` and `recv`, and what a member gets as element `i`, if it gets anything.
    fn expected(kind: &CollectiveKind, n: usize, me: usize, count: usize) -> (usize, usize, Option<Element>) {
        let sum = move |i: usize| (0..n).fold(0u32, |sum, rank| sum.wrapping_add(value(rank, i)));
        let block = count.max(1);
        match *kind {
            CollectiveKind::AllReduce(_) => (1, 1, Some(Box::new(sum))),
            CollectiveKind::Reduce { root, .. } => (1, 1, (root == me).then(|| Box::new(sum) as _)),
            CollectiveKind::ReduceScatter(_) => (n, 1, Some(Box::new(move |i| sum(me * block + i)))),
            CollectiveKind::AllGather => (1, n, Some(Box::new(move |i| value(i / block, i % block)))),
            CollectiveKind::Gather { root } => {
                (1, n, (root == me).then(|| Box::new(move |i| value(i / block, i % block)) as _))
            }
            CollectiveKind::Broadcast { root } => (1, 1, Some(Box::new(move |i| value(root, i)))),
            CollectiveKind::Scatter { root } => (n, 1, Some(Box::new(move |i| value(root, me * block + i)))),
            _ => (n, n, Some(Box::new(move |i| value(i / block, me * block + i % block)))),
        }
    }

    fn check(kind: &CollectiveKind, n: usize, count: usize) {
        let cases: Vec<_> = (0..n).map(|me| expected(kind, n, me, count)).collect();
        let mut sends: Vec<Vec<u32>> = cases
            .iter()
            .enumerate()
            .map(|(me, case)| (0..case.0 * count).map(|i| value(me, i)).collect())
            .collect();
        let mut recvs: Vec<Vec<u32>> = cases.iter().map(|case| vec![7; case.1 * count]).collect();
        let mut scratches = vec![vec![0u32; largest_message(n) / 4]; n];
        let plans: Vec<Transfer<'_>> = (0..n)
            .map(|me| {
                let (send, recv) = (span(&mut sends[me]), span(&mut recvs[me]));
                let call = Call { send: Some(send), recv: Some(recv), dtype: DType::U32, count };
                Transfer::new(kind, &call, me, n, span(&mut scratches[me]))
            })
            .collect();
        run(&plans);
        for (me, (_, _, element)) in cases.iter().enumerate() {
            let right = |(i, &got): (usize, &u32)| got == element.as_ref().map_or(7, |element| element(i));
            assert!(recvs[me].iter().enumerate().all(right), "{kind} of {count} at rank {me} of {n}");
        }
    }

    #[test]
    fn every_member_gets_what_it_should() {
        let reduction = Reduction::Sum;
        for n in 1..=5 {
            let root = n / 2;
            for kind in [
                CollectiveKind::AllReduce(reduction),
                CollectiveKind::Reduce { root, reduction },
                CollectiveKind::ReduceScatter(reduction),
                CollectiveKind::AllGather,
                CollectiveKind::Gather { root },
                CollectiveKind::Broadcast { root },
                CollectiveKind::Scatter { root },
                CollectiveKind::AllToAll,
            ] {
                let step = largest_message(n) / 4;
                // Nothing, little, just too much for one shot, a part of a step, several steps with a rest.
                for count in [0, 3, ONE_SHOT / 4 + 1, step - 5, n * step, 3 * n * step + 1001] {
                    check(&kind, n, count);
                }
            }
        }
    }
}
