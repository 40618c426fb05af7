//! Collectives on each other's buffers, without copies in between.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::group::SharedGroup;
use super::layout::control;
use super::memory::Span;
use super::rounds::{Post, Round, Running};
use super::segments::Opened;
use super::staged::Transfer;
use super::sync::{AtomicU32, heavy_fence, light_fence, yield_now};
use crate::reduce::Combine;
use crate::{CollectiveKind, Reduction, Result};

/// What the others do with the buffers of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Access {
    reads_send: bool,
    writes_recv: bool,
}

impl Access {
    fn of(kind: &CollectiveKind, member: usize) -> Self {
        let (reads_send, writes_recv) = match *kind {
            CollectiveKind::AllReduce(_) => (true, true),
            CollectiveKind::Reduce { root, .. } => (true, member == root),
            CollectiveKind::Broadcast { root } | CollectiveKind::Scatter { root } => (member == root, false),
            CollectiveKind::Gather { root } => (member != root, false),
            CollectiveKind::AllGather | CollectiveKind::ReduceScatter(_) | CollectiveKind::AllToAll => {
                (true, false)
            }
            CollectiveKind::Barrier | CollectiveKind::Send { .. } | CollectiveKind::Receive { .. } => {
                (false, false)
            }
        };
        Access { reads_send, writes_recv }
    }

    fn is_any(self) -> bool {
        self.reads_send || self.writes_recv
    }
}

impl Transfer<'_> {
    /// What this member publishes first: where its buffers are, if all that others need of them can be found.
    pub(super) fn post(&self, kind: &CollectiveKind, running: &Running<'_>) -> Post {
        let access = Access::of(kind, self.me);
        let spans = [access.reads_send.then_some(self.send), access.writes_recv.then_some(self.recv)];
        let [send, recv] = running.at.member.places(spans);
        // Who reads all of the others' cannot write where they read.
        let alone = access.writes_recv && recv == 0 && self.send.overlaps(self.recv);
        match access.reads_send && send != 0 && !alone {
            true => Post::Where([send, recv]),
            false => Post::Copied,
        }
    }

    /// Whether other members touch the buffers of this one.
    pub(super) fn is_accessed(&self, kind: &CollectiveKind) -> bool {
        Access::of(kind, self.me).is_any()
    }

    /// Runs the operation on everybody's buffers, if all have published where they are; `false` if not.
    pub(super) fn run_direct(
        &self,
        kind: &CollectiveKind,
        round: &Round<'_>,
        running: &mut Running<'_>,
    ) -> Result<bool> {
        let (at, post) = (running.at, running.post);
        let opened = &mut *running.opened;
        opened.begin();
        for member in 0..self.n {
            let places = match if member == self.me { post } else { round.post_of(member) } {
                Post::Where(places) => places,
                _ if Access::of(kind, member).is_any() => return Ok(false),
                _ => [0; 2],
            };
            opened.find(&at.member, at.group.ranks[member], places)?;
        }
        if matches!(kind, CollectiveKind::AllReduce(_)) && opened.would_write_early(self.n) {
            return Ok(false);
        }
        let inside = at.go_inside(&|| round.describe())?;
        Peers { transfer: self, opened, ranks: &at.group.ranks }.run(kind);
        drop(inside);
        at.check_undisturbed(&|| round.describe())?;
        running.finish();
        if self.is_accessed(kind) {
            running.wait_for_finish(0)?;
        }
        Ok(true)
    }
}

impl SharedGroup {
    /// Before this member reads and writes others' buffers by their addresses, as threads do, it makes sure that none of
    /// them has given up and gone; and who gives up waits until it has left.
    fn go_inside(&self, operation: &dyn Fn() -> String) -> Result<Option<Inside<'_>>> {
        if !self.member.is_one_process {
            return Ok(None);
        }
        let inside = Inside(self.inside(self.group.rank));
        inside.0.store(1, Ordering::Relaxed);
        light_fence();
        self.check_undisturbed(operation)?;
        Ok(Some(inside))
    }

    /// For a member that has given up, once everybody can know: waits until nobody is at its buffers any more.
    pub(super) fn wait_for_insiders(&self) {
        if !self.member.is_one_process {
            return;
        }
        heavy_fence();
        for member in 0..self.group.size() {
            while self.inside(member).load(Ordering::Acquire) != 0 {
                yield_now();
            }
        }
    }

    fn inside(&self, member: usize) -> &AtomicU32 {
        self.region.word(self.channel.control(member) + control::INSIDE)
    }
}

/// While it is there, a member is at others' buffers.
struct Inside<'a>(&'a AtomicU32);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

/// Everybody's buffers.
struct Peers<'a> {
    transfer: &'a Transfer<'a>,
    opened: &'a Opened,
    ranks: &'a [usize],
}

impl Peers<'_> {
    fn run(&self, kind: &CollectiveKind) {
        let &Transfer { block, me, n, recv, .. } = self.transfer;
        match *kind {
            CollectiveKind::AllReduce(reduction) if (0..n).all(|member| self.recv(member).is_some()) => {
                self.reduce(reduction, self.transfer.part(me, block), n, &|member| {
                    self.recv(member).unwrap_or(recv)
                });
            }
            CollectiveKind::AllReduce(reduction) => self.reduce(reduction, 0..block, 1, &|_| recv),
            CollectiveKind::Reduce { root, reduction } => match self.recv(root) {
                Some(out) => self.reduce(reduction, self.transfer.part(me, block), 1, &|_| out),
                None if me == root => self.reduce(reduction, 0..block, 1, &|_| recv),
                None => {}
            },
            CollectiveKind::ReduceScatter(reduction) => {
                let source = |member| self.send(member, n * block).block(me, n);
                self.combine(reduction).run(&source, 1, &|_| recv);
            }
            CollectiveKind::AllGather => self.gather(),
            CollectiveKind::Gather { root } if me == root => self.gather(),
            CollectiveKind::Broadcast { root } => recv.copy_from(self.send(root, block)),
            CollectiveKind::Scatter { root } => recv.copy_from(self.send(root, n * block).block(me, n)),
            CollectiveKind::AllToAll => {
                (0..n).for_each(|m| recv.block(m, n).copy_from(self.send(m, n * block).block(me, n)));
            }
            _ => {}
        }
    }

    fn gather(&self) {
        let Transfer { block, n, recv, .. } = *self.transfer;
        (0..n).for_each(|member| recv.block(member, n).copy_from(self.send(member, block)));
    }

    /// Reduces a range of everybody's `send`.
    fn reduce(&self, reduction: Reduction, range: Range<usize>, outs: usize, out: &dyn Fn(usize) -> Span) {
        let source = |member| self.send(member, self.transfer.block).part(range.clone());
        self.combine(reduction).run(&source, outs, &|n| out(n).part(range.clone()));
    }

    fn combine(&self, reduction: Reduction) -> Combine {
        let streams = self.transfer.block >= self.transfer.tuning.stream;
        Combine { dtype: self.transfer.dtype, reduction, ranks: self.transfer.n, streams }
    }

    fn send(&self, member: usize, len: usize) -> Span {
        let own = || self.transfer.send;
        self.buffer(member, 0, len, own).unwrap_or_else(own)
    }

    fn recv(&self, member: usize) -> Option<Span> {
        self.buffer(member, 1, self.transfer.block, || self.transfer.recv)
    }

    fn buffer(&self, member: usize, which: usize, len: usize, own: impl Fn() -> Span) -> Option<Span> {
        let place = self.opened.place(member, which)?;
        Some(match member == self.transfer.me {
            true => own(),
            false => self.opened.span(self.ranks[member], place, len),
        })
    }
}
