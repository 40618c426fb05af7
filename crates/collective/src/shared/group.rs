//! One rank in one group.

use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::failure::FailureRecord;
use super::layout::{Channel, SLOTS, control, slot};
use super::member::Member;
use super::memory::{Region, Span};
use super::messages::Inbox;
use super::rounds::{Extent, Running, State};
use super::signature::{Encoded, Signature};
use super::sync::{Instant, yield_now};
use super::wait::Counter;
use crate::{Error, Group, Result};

/// One rank in one group, over shared memory.
pub(crate) struct SharedGroup {
    pub(super) member: Arc<Member>,
    pub(super) group: Group,
    pub(super) channel: Channel,
    /// The memory of the channel.
    pub(super) region: Arc<Region>,
    /// Offset of the group's failure record.
    pub(super) failure_at: usize,
    pub(super) state: Mutex<State>,
    pub(super) outbox: Mutex<()>,
    pub(super) inbox: Mutex<Inbox>,
}

impl SharedGroup {
    pub(super) fn new(member: Arc<Member>, group: Group, region: Arc<Region>, failure_at: usize) -> Self {
        SharedGroup {
            channel: Channel::of(group.size()),
            state: Mutex::new(State::of(group.size())),
            member,
            group,
            region,
            failure_at,
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_failures(&|| self.describe(signature))?;
        let words = state.progress.begin(signature, extent).map_err(|started| {
            let (next, group) = (self.describe(signature), self.group.name.as_str());
            Error::InvalidArgument(format!("{next}: {started} in group {group:?} was started before"))
        })?;
        let result = run(&mut Running::new(self, &mut state, signature, &words, extent));
        result.inspect_err(|error| {
            self.report(error);
            self.wait_for_insiders();
        })
    }

    /// Makes a failure everybody's, unless it is just that somebody has given up this group. What the caller does to its
    /// buffers then comes after that.
    pub(super) fn report(&self, error: &Error) {
        if self.failure().is_empty() {
            self.member.report(error);
        }
        fence(Ordering::SeqCst);
    }

    /// Fails if somebody has given up: what was read of its buffers may have changed meanwhile.
    pub(super) fn check_undisturbed(&self, operation: &dyn Fn() -> String) -> Result<()> {
        fence(Ordering::Acquire);
        if self.failure().is_empty() && self.member.failure().is_empty() {
            return Ok(());
        }
        let since = Instant::now();
        while since.elapsed() < self.member.timeout {
            self.check_failures(operation)?;
            yield_now();
        }
        Err(super::member::lost(self.member.rank, "a failure was not told to its end", operation()))
    }

    /// Fails if the world or this group has failed.
    pub(super) fn check_failures(&self, operation: &dyn Fn() -> String) -> Result<()> {
        self.member.check_world(operation)?;
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
        self.region.span(offset, len)
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
        let missing_ranks = missing.clone().map(|member| ranks[member]);
        self.member.note_wait(waited, missing_ranks.clone(), || {
            let whom: Vec<usize> = missing_ranks.clone().collect();
            format!("{} in {}", crate::error::ranks(&whom), operation())
        });
        if waited < self.member.timeout || !members.any(is_missing) {
            return Ok(());
        }
        let detail = missing.clone().map(|member| self.last_words(member)).collect::<Vec<_>>().join("; ");
        let detail = detail + &self.member.waits();
        let missing = self.member.to_blame(&missing_ranks.collect::<Vec<_>>());
        Err(Error::Timeout { missing, waited: self.member.timeout, operation: operation(), detail })
    }

    /// What a member did last in this group.
    fn last_words(&self, member: usize) -> String {
        let rank = self.group.ranks[member];
        let Some(round) = self.last_posted(member) else {
            return format!("rank {rank} has not come to any collective of this group");
        };
        let words = self.signature_of(member, round);
        let what = Signature::decode(&words).map_or_else(|| "?".to_owned(), |s| s.to_string());
        format!("rank {rank} has come to collective {} of this group, {what}", Signature::number(&words))
    }

    /// The last round that a member has published.
    fn last_posted(&self, member: usize) -> Option<u32> {
        let posted = (0..SLOTS as u32).map(|slot| self.posted(member, slot).load());
        let newest = posted.fold(None, |newest: Option<u32>, value| match newest {
            Some(newest) if newest.wrapping_sub(value).cast_signed() > 0 => Some(newest),
            _ => Some(value),
        });
        newest.filter(|&value| value > 0).map(|value| value.wrapping_sub(1))
    }

    /// The counter by which a member says that it has published a round.
    pub(super) fn posted(&self, member: usize, round: u32) -> Counter<'_> {
        Counter::at(&self.region, self.channel.slot(member, round) + slot::POSTED)
    }

    /// The counter of rounds whose second part a member has finished.
    pub(super) fn finished(&self, member: usize) -> Counter<'_> {
        Counter::at(&self.region, self.channel.control(member) + control::FINISHED)
    }

    /// The counter by which a member says that it has copied what it had published by place.
    pub(super) fn copied(&self, member: usize) -> Counter<'_> {
        Counter::at(&self.region, self.channel.control(member) + control::COPIED)
    }

    pub(super) fn signature_of(&self, member: usize, round: u32) -> Encoded {
        let mut words = Encoded::default();
        let at = self.channel.slot(member, round) + slot::SIGNATURE;
        self.span(at, size_of::<Encoded>()).read(&mut words);
        words
    }
}

impl fmt::Debug for SharedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGroup").field("group", &self.group).finish_non_exhaustive()
    }
}
