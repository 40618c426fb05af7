//! Collectives advance in rounds. In each, every member publishes something in its slot of that round, waits until all
//! have, and reads what it needs. Who has seen all of a round knows that all are done with the one before, so that
//! nobody has to say when a slot is free.

use std::ops::Range;
use std::time::Duration;

use super::group::SharedGroup;
use super::layout::{AHEAD, CHUNK, slot};
use super::memory::Span;
use super::segments::Opened;
use super::signature::{Encoded, Manner, Signature};
use super::wait::Counter;
use crate::{Error, Result};

/// How far this member has come; the same at all members between operations.
#[derive(Debug, Default)]
pub(super) struct Progress {
    round: u32,
    /// Rounds that this member has published, from the current one on.
    published: u32,
    /// Rounds of two parts, or operations on each other's buffers.
    finished: u32,
    operations: u64,
    /// The operation that was started and goes on.
    started: Option<Encoded>,
    opened: Opened,
}

/// How far an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Until it would wait for others.
    Start,
    /// To its end.
    Whole,
}

/// What a member publishes in the first round of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    /// A copy of its bytes.
    Copied,
    /// The same, ahead: the others need not wait until it comes.
    Started,
    /// Where its buffers are, as far as others need them.
    Where([u64; 2]),
}

/// One collective operation under way.
pub(super) struct Running<'a> {
    pub(super) at: &'a SharedGroup,
    progress: &'a mut Progress,
    signature: &'a Signature,
    pub(super) extent: Extent,
}

/// How many bytes an operation moves, and how many in a round. There is at least one round, so that members meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) total: usize,
    pub(super) step: usize,
}

impl Steps {
    fn range(self, index: u32) -> Option<Range<usize>> {
        let start = index as usize * self.step;
        (start < self.total || index == 0).then(|| start..self.total.min(start + self.step))
    }
}

impl Progress {
    /// Goes on with the operation that was started, or with a new one. Fails with what was started, if that is
    /// another one.
    pub(super) fn begin(&mut self, signature: &Signature, extent: Extent) -> Result<(), String> {
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
    pub(super) fn new(
        at: &'a SharedGroup,
        progress: &'a mut Progress,
        signature: &'a Signature,
        extent: Extent,
    ) -> Self {
        Running { at, progress, signature, extent }
    }

    /// The segments of others, until they are given back.
    pub(super) fn take_opened(&mut self) -> Opened {
        std::mem::take(&mut self.progress.opened)
    }

    pub(super) fn give_opened(&mut self, opened: Opened) {
        self.progress.opened = opened;
    }

    /// Whether this operation was started before, and has published copies.
    pub(super) fn has_begun(&self) -> bool {
        self.progress.published > 0
    }

    /// Moves bytes through the slots: `put` fills this member's, `take` reads the others'. What is only started publishes
    /// as many rounds as there are free slots.
    pub(super) fn rounds(
        &mut self,
        steps: Steps,
        mut put: impl FnMut(Range<usize>, Slot),
        take: impl FnMut(Range<usize>, &Round<'_>) -> Result<()>,
    ) -> Result<()> {
        self.meet_first(steps, &mut put)?;
        self.rounds_after_first(steps, put, take)
    }

    /// The rounds after [`Running::meet_first`].
    pub(super) fn rounds_after_first(
        &mut self,
        steps: Steps,
        mut put: impl FnMut(Range<usize>, Slot),
        mut take: impl FnMut(Range<usize>, &Round<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.extent == Extent::Start {
            return Ok(());
        }
        for index in 0.. {
            let Some(range) = steps.range(index) else { break };
            let round = self.meet(steps, index, &mut put)?;
            take(range, &round)?;
            self.next_round();
        }
        Ok(())
    }

    /// Rounds of two parts: in the second, which comes when all have done the first, members read what others have
    /// written in their slots in the first. While one waits for the second part, the first of the next round goes on.
    pub(super) fn rounds_of_two_parts(
        &mut self,
        steps: Steps,
        mut put: impl FnMut(Range<usize>, Slot),
        mut first: impl FnMut(Range<usize>, &Round<'_>),
        mut second: impl FnMut(Range<usize>, &Round<'_>),
    ) -> Result<()> {
        let mut last: Option<(Range<usize>, Round<'_>)> = None;
        for index in 0.. {
            let Some(range) = steps.range(index) else { break };
            let round = self.meet(steps, index, &mut put)?;
            first(range.clone(), &round);
            self.finish();
            if let Some((range, round)) = last.replace((range, round)) {
                self.wait_for_finish(1)?;
                second(range, &round);
            }
            self.next_round();
        }
        if let Some((range, round)) = last {
            self.wait_for_finish(0)?;
            second(range, &round);
        }
        Ok(())
    }

    /// Waits until all have come, and compares what they do. Who has published where its buffers are, while others have
    /// not, publishes copies after all. Whether somebody has started before.
    pub(super) fn meet_first(
        &mut self,
        steps: Steps,
        put: &mut impl FnMut(Range<usize>, Slot),
    ) -> Result<bool> {
        if self.extent == Extent::Start {
            self.publish_up_to(AHEAD + 1, steps, 0, put);
            return Ok(true);
        }
        let round = self.meet(steps, 0, put)?;
        round.compare_signatures()?;
        let members = 0..self.at.group.size();
        for member in members.clone().filter(|&member| matches!(round.post_of(member), Post::Where(_))) {
            if member == self.at.group.rank {
                steps.range(0).into_iter().for_each(|range| put(range, round.slot(member)));
                self.at.copied(member).publish(round.next());
            }
            let copied = self.at.copied(member);
            let is_missing = |m: usize| m == member && copied.load() != round.next();
            if is_missing(member) {
                let ready = |value| value == round.next();
                copied.wait(self.at.member.patience, ready, |waited| round.check(&is_missing, waited))?;
            }
        }
        Ok(members.into_iter().any(|member| round.post_of(member) == Post::Started))
    }

    /// Whether somebody else has started the operation.
    pub(super) fn is_started_by_others(&self) -> bool {
        let round = self.round(0);
        let is_here = |member| self.at.posted(member, round.index).reached(round.next());
        round.others().any(|member| is_here(member) && round.post_of(member) == Post::Started)
    }

    /// Publishes something in a round of its own, and gives what all have published when they have.
    pub(super) fn post(&mut self, post: Post) -> Result<Round<'a>> {
        let round = self.round(0);
        round.publish(self.progress.operations, post);
        self.progress.published = 1;
        round.wait_posted()?;
        round.compare_signatures()?;
        Ok(round)
    }

    /// Goes on after the round of [`Running::post`].
    pub(super) fn next_round(&mut self) {
        self.progress.round = self.progress.round.wrapping_add(1);
        self.progress.published -= 1;
    }

    /// Says that this member has done its part of the current round, or of the operation.
    pub(super) fn finish(&mut self) {
        self.progress.finished = self.progress.finished.wrapping_add(1);
        self.at.finished(self.at.group.rank).publish(self.progress.finished);
    }

    /// Waits until all have finished what this member has, but for the last so many.
    pub(super) fn wait_for_finish(&self, but: u32) -> Result<()> {
        let target = self.progress.finished.wrapping_sub(but);
        self.round(0).wait_for_all(target, |member| self.at.finished(member))
    }

    /// Publishes this round and the next, and waits until all have published this one.
    fn meet(
        &mut self,
        steps: Steps,
        index: u32,
        put: &mut impl FnMut(Range<usize>, Slot),
    ) -> Result<Round<'a>> {
        self.publish_up_to(2, steps, index, put);
        let round = self.round(0);
        round.wait_posted()?;
        Ok(round)
    }

    fn publish_up_to(
        &mut self,
        most: u32,
        steps: Steps,
        index: u32,
        put: &mut impl FnMut(Range<usize>, Slot),
    ) {
        while self.progress.published < most
            && let Some(range) = steps.range(index + self.progress.published)
        {
            let round = self.round(self.progress.published);
            put(range, round.slot(self.at.group.rank));
            let post = if self.extent == Extent::Start { Post::Started } else { Post::Copied };
            round.publish(self.progress.operations, post);
            self.progress.published += 1;
        }
    }

    /// The round so many after the current one.
    fn round(&self, ahead: u32) -> Round<'a> {
        Round { at: self.at, index: self.progress.round.wrapping_add(ahead), signature: self.signature }
    }
}

/// Where a member publishes bytes in a round: a few words in the line that says so, or the chunk behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(Span);

impl Slot {
    /// Room for so many bytes, of at most [`CHUNK`].
    pub(super) fn room(self, len: usize) -> Span {
        let start = if len <= slot::CHUNK - slot::WORDS { slot::WORDS } else { slot::CHUNK };
        self.0.part(start..start + len)
    }

    /// The chunk.
    pub(super) fn chunk(self) -> Span {
        self.room(CHUNK)
    }
}

/// One round, while its slots may be read.
pub(super) struct Round<'a> {
    at: &'a SharedGroup,
    index: u32,
    signature: &'a Signature,
}

impl Round<'_> {
    /// The number of the round after it: what counters of those who are done with it say.
    fn next(&self) -> u32 {
        self.index.wrapping_add(1)
    }

    /// The slot of a member.
    pub(super) fn slot(&self, member: usize) -> Slot {
        Slot(self.at.span(self.at.channel.slot(member, self.index), slot::LEN))
    }

    /// How a member has begun the operation.
    pub(super) fn post_of(&self, member: usize) -> Post {
        match Signature::manner(&self.at.signature_of(member, self.index)) {
            Manner::Copied => Post::Copied,
            Manner::Started => Post::Started,
            Manner::Elsewhere => {
                let mut words = [0; 2];
                self.slot(member).room(size_of_val(&words)).read(&mut words);
                Post::Where(words)
            }
        }
    }

    fn publish(&self, number: u64, post: Post) {
        let me = self.at.group.rank;
        let manner = match post {
            Post::Copied => Manner::Copied,
            Post::Started => Manner::Started,
            Post::Where(places) => {
                self.slot(me).room(size_of_val(&places)).write(&places);
                Manner::Elsewhere
            }
        };
        let words = self.signature.encode_as(number, manner);
        let at = self.at.channel.slot(me, self.index) + slot::SIGNATURE;
        self.at.span(at, size_of::<Encoded>()).write(&words);
        self.at.posted(me, self.index).publish(self.next());
    }

    fn wait_posted(&self) -> Result<()> {
        self.wait_for_all(self.next(), |member| self.at.posted(member, self.index))
    }

    fn wait_for_all<'b>(&self, target: u32, counter: impl Fn(usize) -> Counter<'b>) -> Result<()> {
        for member in self.others() {
            let one = counter(member);
            if !one.reached(target) {
                let ready = |value: u32| value.wrapping_sub(target).cast_signed() >= 0;
                let is_missing = |member: usize| !counter(member).reached(target);
                one.wait(self.at.member.patience, ready, |waited| self.check(&is_missing, waited))?;
            }
        }
        Ok(())
    }

    fn check(&self, is_missing: &dyn Fn(usize) -> bool, waited: Duration) -> Result<()> {
        self.at.check_progress(self.others(), is_missing, waited, &|| self.at.describe(self.signature))
    }

    fn compare_signatures(&self) -> Result<()> {
        let me = self.at.group.rank;
        let mine = self.at.signature_of(me, self.index);
        let differs = |member: &usize| !Signature::agree(&mine, &self.at.signature_of(*member, self.index));
        let Some(other) = self.others().find(differs) else {
            return Ok(());
        };
        let theirs = Signature::decode(&self.at.signature_of(other, self.index));
        let theirs = theirs.map_or_else(|| "something unknown".to_owned(), |s| self.at.describe(&s));
        let ranks = &self.at.group.ranks;
        Err(Error::mismatch([(ranks[me], self.at.describe(self.signature)), (ranks[other], theirs)]))
    }

    fn others(&self) -> impl Iterator<Item = usize> + Clone + use<'_> {
        let me = self.at.group.rank;
        (0..self.at.group.size()).filter(move |&member| member != me)
    }
}
