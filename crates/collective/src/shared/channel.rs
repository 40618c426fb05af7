//! The channel of a group. Collectives advance in rounds: in each, every member publishes a chunk in the slot of
//! that round, waits until all have, reads what it needs, and says that it is done. A slot is used again when
//! all members are done with it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::failure::FailureRecord;
use super::layout::{CHUNK, Channel, SLOTS, control};
use super::member::Member;
use super::memory::Span;
use super::messages::Inbox;
use super::signature::{Encoded, Signature};
use super::wait::Counter;
use crate::{Error, Group, Result};

/// One rank in one group, over shared memory.
pub(crate) struct SharedGroup {
    pub(super) member: Arc<Member>,
    pub(super) group: Group,
    pub(super) channel: Channel,
    /// Offset of the group's failure record.
    pub(super) failure_at: usize,
    pub(super) progress: Mutex<Progress>,
    pub(super) outbox: Mutex<()>,
    pub(super) inbox: Mutex<Inbox>,
}

/// How far this member has come; the same at all members between operations.
#[derive(Debug, Default)]
pub(super) struct Progress {
    round: u32,
    /// Rounds of the current operation that this member has published before it came to them.
    ahead: u32,
    operations: u64,
    /// The operation that was started and goes on.
    started: Option<Encoded>,
}

/// How far an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Until it would wait for others.
    Start,
    /// To its end.
    Whole,
}

/// One collective operation under way.
pub(super) struct Running<'a> {
    at: &'a SharedGroup,
    progress: &'a mut Progress,
    signature: &'a Signature,
    extent: Extent,
}

impl SharedGroup {
    pub(super) fn new(member: Arc<Member>, group: Group, channel: Channel, failure_at: usize) -> Self {
        SharedGroup {
            member,
            group,
            channel,
            failure_at,
            progress: Mutex::default(),
            outbox: Mutex::default(),
            inbox: Mutex::default(),
        }
    }

    /// Runs a collective: checks that nothing has failed before, and makes a failure everybody's.
    pub(super) fn collective<T>(
        &self,
        signature: &Signature,
        extent: Extent,
        run: impl FnOnce(&mut Running<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_failures(&|| self.describe(signature))?;
        progress.begin(signature, extent).map_err(|started| {
            let (next, group) = (self.describe(signature), self.group.name.as_str());
            Error::InvalidArgument(format!("{next}: {started} in group {group:?} was started before"))
        })?;
        let result = run(&mut Running { at: self, progress: &mut progress, signature, extent });
        result.inspect_err(|error| self.report(error))
    }

    /// Makes a failure everybody's, unless it is just that somebody has given up this group.
    pub(super) fn report(&self, error: &Error) {
        if self.failure().is_empty() {
            self.member.report(error);
        }
    }

    /// Fails if the world or this group has failed.
    pub(super) fn check_failures(&self, operation: &dyn Fn() -> String) -> Result<()> {
        self.member.failure().check(self.member.rank, operation)?;
        self.failure().check(self.member.rank, operation)
    }

    /// The failure that concerns this group alone.
    pub(super) fn failure(&self) -> FailureRecord<'_> {
        FailureRecord::at(&self.member.region, self.failure_at)
    }

    pub(super) fn describe(&self, signature: &Signature) -> String {
        format!("{signature} in group {:?}", self.group.name.as_str())
    }

    pub(super) fn span(&self, offset: usize, len: usize) -> Span {
        self.member.region.span(offset, len)
    }

    /// Gives up if the group has failed, if one of `members` that `is_missing` is lost, or if it took too long.
    pub(super) fn check_progress(
        &self,
        mut members: impl Iterator<Item = usize> + Clone,
        is_missing: &dyn Fn(usize) -> bool,
        waited: Duration,
        operation: &dyn Fn() -> String,
    ) -> Result<()> {
        self.check_failures(operation)?;
        let ranks = &self.group.ranks;
        let missing = members.clone().filter(|&member| is_missing(member));
        let lost = missing.clone().find_map(|member| {
            let error = self.member.check_alive(ranks[member], operation).err()?;
            // It may have done its part before it ended.
            is_missing(member).then_some(error)
        });
        if let Some(error) = lost {
            // It may have ended because of a failure.
            return self.check_failures(operation).and(Err(error));
        }
        if waited < self.member.timeout || !members.any(is_missing) {
            return Ok(());
        }
        let detail = missing.clone().map(|member| self.last_words(member)).collect::<Vec<_>>().join("; ");
        let missing = missing.map(|member| ranks[member]).collect();
        Err(Error::Timeout { missing, waited: self.member.timeout, operation: operation(), detail })
    }

    /// What a member did last in this group.
    fn last_words(&self, member: usize) -> String {
        let rank = self.group.ranks[member];
        let posted = self.counter(member, control::POSTED).load();
        let done = self.counter(member, control::DONE).load();
        if posted == 0 {
            return format!("rank {rank} has not come to any collective of this group");
        }
        let words = self.signature_of(member, posted.wrapping_sub(1));
        let what = Signature::decode(&words).map_or_else(|| "?".to_owned(), |s| s.to_string());
        let state = if done == posted { "finished" } else { "is in" };
        format!("rank {rank} {state} collective {} of this group, {what}", words[4])
    }

    pub(super) fn counter(&self, member: usize, which: usize) -> Counter<'_> {
        Counter::at(&self.member.region, self.channel.control(member) + which)
    }

    fn signature_of(&self, member: usize, round: u32) -> Encoded {
        let mut words = Encoded::default();
        self.span(self.channel.signature(member, round), size_of::<Encoded>()).read(&mut words);
        words
    }
}

impl Progress {
    /// Goes on with the operation that was started, or with a new one. Fails with what was started, if that is
    /// another one.
    fn begin(&mut self, signature: &Signature, extent: Extent) -> Result<(), String> {
        let this = signature.encode(0);
        if let Some(started) = &self.started {
            if *started != this || extent == Extent::Start {
                return Err(Signature::decode(started).map_or_else(|| "?".to_owned(), |s| s.to_string()));
            }
            self.started = None;
            return Ok(());
        }
        self.operations += 1;
        self.started = (extent == Extent::Start).then_some(this);
        Ok(())
    }
}

impl<'a> Running<'a> {
    /// Moves `total` bytes through the slots, at most `step` in a round: `put` fills this member's chunk of at
    /// most [`CHUNK`] bytes, `take` reads the others'. There is at least one round, so that members meet. What is
    /// only started publishes as many rounds as there are free slots.
    pub(super) fn rounds(
        &mut self,
        total: usize,
        step: usize,
        mut put: impl FnMut(Range<usize>, Span),
        mut take: impl FnMut(Range<usize>, &Round<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut range = 0..step.min(total);
        if self.extent == Extent::Start {
            self.publish_ahead(range, total, put);
            return Ok(());
        }
        loop {
            let round = self.round(0);
            if self.progress.ahead > 0 {
                self.progress.ahead -= 1;
            } else {
                round.wait_for_all(control::DONE, round.free())?;
                self.publish(&round, range.clone(), &mut put);
            }
            round.wait_for_all(control::POSTED, round.index.wrapping_add(1))?;
            if range.start == 0 {
                round.compare_signatures()?;
            }
            take(range.clone(), &round)?;
            // Kept up even where nothing is reduced: a counter far behind would look as if it were ahead.
            self.at.counter(self.at.group.rank, control::REDUCED).store(round.index.wrapping_add(1));
            round.publish(control::DONE);
            self.progress.round = round.index.wrapping_add(1);
            if range.end == total {
                return Ok(());
            }
            range = range.end..total.min(range.end + step);
        }
    }

    fn publish_ahead(
        &mut self,
        mut range: Range<usize>,
        total: usize,
        mut put: impl FnMut(Range<usize>, Span),
    ) {
        let step = range.len();
        loop {
            let round = self.round(self.progress.ahead);
            if !round.all_reached(control::DONE, round.free()) {
                return;
            }
            self.publish(&round, range.clone(), &mut put);
            self.progress.ahead += 1;
            if range.end == total {
                return;
            }
            range = range.end..total.min(range.end + step);
        }
    }

    fn publish(&self, round: &Round<'_>, range: Range<usize>, put: &mut impl FnMut(Range<usize>, Span)) {
        put(range, round.chunk(self.at.group.rank));
        round.sign(self.progress.operations);
        round.publish(control::POSTED);
    }

    /// The round so many after the current one.
    fn round(&self, ahead: u32) -> Round<'a> {
        Round { at: self.at, index: self.progress.round.wrapping_add(ahead), signature: self.signature }
    }
}

/// One round, while its chunks may be read.
pub(super) struct Round<'a> {
    at: &'a SharedGroup,
    index: u32,
    signature: &'a Signature,
}

impl Round<'_> {
    /// The chunk that a member published.
    pub(super) fn chunk(&self, member: usize) -> Span {
        self.at.span(self.at.channel.chunk(member, self.index), CHUNK)
    }

    /// Says that this member has reduced its part, and waits until all have.
    pub(super) fn meet_reduced(&self) -> Result<()> {
        self.publish(control::REDUCED);
        self.wait_for_all(control::REDUCED, self.index.wrapping_add(1))
    }

    fn sign(&self, number: u64) {
        let offset = self.at.channel.signature(self.at.group.rank, self.index);
        self.at.span(offset, size_of::<Encoded>()).write(&self.signature.encode(number));
    }

    fn publish(&self, counter: usize) {
        self.at.counter(self.at.group.rank, counter).publish(self.index.wrapping_add(1));
    }

    /// The round that all must be done with before this one's slot is used again.
    fn free(&self) -> u32 {
        self.index.wrapping_sub(SLOTS as u32 - 1)
    }

    fn all_reached(&self, which: usize, target: u32) -> bool {
        self.others().all(|member| self.at.counter(member, which).reached(target))
    }

    fn wait_for_all(&self, which: usize, target: u32) -> Result<()> {
        for member in self.others() {
            let counter = self.at.counter(member, which);
            if counter.reached(target) {
                continue;
            }
            let ready = |value: u32| value.wrapping_sub(target).cast_signed() >= 0;
            counter.wait(self.at.member.patience, ready, |waited| self.check(which, target, waited))?;
        }
        Ok(())
    }

    fn check(&self, which: usize, target: u32, waited: Duration) -> Result<()> {
        let is_missing = |member: usize| !self.at.counter(member, which).reached(target);
        self.at.check_progress(self.others(), &is_missing, waited, &|| self.at.describe(self.signature))
    }

    fn compare_signatures(&self) -> Result<()> {
        let mine = self.signature.encode(0);
        let other = self.others().find(|&m| self.at.signature_of(m, self.index)[..4] != mine[..4]);
        let Some(other) = other else {
            return Ok(());
        };
        let theirs = Signature::decode(&self.at.signature_of(other, self.index));
        let theirs = theirs.map_or_else(|| "something unknown".to_owned(), |s| self.at.describe(&s));
        let ranks = &self.at.group.ranks;
        let mut sides =
            [(ranks[self.at.group.rank], self.at.describe(self.signature)), (ranks[other], theirs)];
        sides.sort();
        let [(a, first), (b, second)] = sides;
        Err(Error::Mismatch { ranks: [a, b], operations: [first, second] })
    }

    fn others(&self) -> impl Iterator<Item = usize> + Clone + use<'_> {
        let me = self.at.group.rank;
        (0..self.at.group.size()).filter(move |&member| member != me)
    }
}

impl fmt::Debug for SharedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGroup").field("group", &self.group).finish_non_exhaustive()
    }
}
