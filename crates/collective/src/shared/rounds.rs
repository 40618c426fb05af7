//! Collectives advance in rounds. In each, every member publishes something in its slot of that round, waits until all
//! have, and reads what it needs. Members publish a little ahead, and each waits in every round: whoever has seen all
//! of a round knows that all are done with those that are further back than anybody publishes ahead, and there are slots
//! enough for that (see `layout`). So nobody has to say when a slot is free.

use std::ops::Range;
use std::time::Duration;

use super::group::SharedGroup;
use super::layout::{AHEAD, CHUNK, slot};
use super::memory::Span;
use super::segments::Opened;
use super::signature::{Encoded, Manner, Signature};
use super::sync::be_fenced_by_others;
use super::wait::Counter;
use crate::{Error, Result};

/// Operations after which a process will do many more.
const MANY: u64 = 2000;

/// What a member keeps from one operation to the next.
#[derive(Debug)]
pub(super) struct State {
    pub(super) progress: Progress,
    opened: Opened,
}

impl State {
    /// For so many members.
    pub(super) fn of(members: usize) -> Self {
        State { progress: Progress::default(), opened: Opened::of(members) }
    }
}

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

impl Post {
    fn manner(self) -> Manner {
        match self {
            Post::Copied => Manner::Copied,
            Post::Started => Manner::Started,
            Post::Where(_) => Manner::Elsewhere,
        }
    }
}

/// One collective operation under way.
pub(super) struct Running<'a> {
    pub(super) at: &'a SharedGroup,
    pub(super) opened: &'a mut Opened,
    pub(super) extent: Extent,
    progress: &'a mut Progress,
    signature: &'a Signature,
    words: &'a Encoded,
    /// Whether all have come to the current round, which is the first.
    has_met: bool,
    /// What this member publishes first.
    pub(super) post: Post,
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
    #[inline(always)]
    pub(super) fn begin(&mut self, signature: &Signature, extent: Extent) -> Result<Encoded, String> {
        self.operations += u64::from(self.started.is_none());
        let this = signature.encode(self.operations);
        match &self.started {
            Some(started) if *started != this || extent == Extent::Start => {
                Err(Signature::decode(started).map_or_else(|| "?".to_owned(), |s| s.to_string()))
            }
            _ => {
                if self.operations == MANY {
                    be_fenced_by_others();
                }
                self.started = (extent == Extent::Start).then_some(this);
                Ok(this)
            }
        }
    }
}

impl<'a> Running<'a> {
    pub(super) fn new(
        at: &'a SharedGroup,
        state: &'a mut State,
        signature: &'a Signature,
        words: &'a Encoded,
        extent: Extent,
    ) -> Self {
        let State { progress, opened } = state;
        let has_begun = progress.published > 0;
        let post = if has_begun || extent == Extent::Start { Post::Started } else { Post::Copied };
        Running { at, opened, extent, progress, signature, words, has_met: false, post }
    }

    /// Whether this operation was started before, and has published copies.
    pub(super) fn has_begun(&self) -> bool {
        self.post == Post::Started
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
    #[inline]
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
    #[inline]
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
        self.has_met = true;
        let manners = round.compare(self.post)?;
        if manners.has(Manner::Elsewhere) {
            self.copy_after_all(&round, steps, put)?;
        }
        Ok(manners.has(Manner::Started))
    }

    /// Publishes a copy of what was published by place, and waits for the others'.
    fn copy_after_all(
        &self,
        round: &Round<'_>,
        steps: Steps,
        put: &mut impl FnMut(Range<usize>, Slot),
    ) -> Result<()> {
        let (me, target) = (self.at.group.rank, round.next());
        if let (Post::Where(_), Some(range)) = (self.post, steps.range(0)) {
            put(range, round.slot(me));
            self.at.copied(me).publish(target);
        }
        let has_copied = |member, value| value == target || round.manner_of(member) != Manner::Elsewhere;
        round.wait_for_all(|member| self.at.copied(member), has_copied)
    }

    /// Publishes something in a round of its own, and gives what all have published when they have, and how.
    pub(super) fn post(&mut self, post: Post) -> Result<(Round<'a>, Manners)> {
        let round = self.round(0);
        self.post = post;
        round.publish(post);
        self.progress.published = 1;
        round.wait_posted()?;
        let manners = round.compare(post)?;
        Ok((round, manners))
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
        self.round(0).wait_for_all(|member| self.at.finished(member), reaches(target))
    }

    /// Publishes this round and the next, and waits until all have published this one, unless they have.
    #[inline]
    fn meet(
        &mut self,
        steps: Steps,
        index: u32,
        put: &mut impl FnMut(Range<usize>, Slot),
    ) -> Result<Round<'a>> {
        let round = self.round(0);
        if !std::mem::take(&mut self.has_met) {
            self.publish_up_to(2, steps, index, put);
            round.wait_posted()?;
        }
        Ok(round)
    }

    #[inline]
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
            round.publish(match self.post {
                Post::Started if self.extent == Extent::Start => Post::Started,
                _ => Post::Copied,
            });
            self.progress.published += 1;
        }
    }

    /// The round so many after the current one.
    fn round(&self, ahead: u32) -> Round<'a> {
        let index = self.progress.round.wrapping_add(ahead);
        Round { at: self.at, index, signature: self.signature, words: self.words }
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
    words: &'a Encoded,
}

/// The manners in which members have begun an operation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manners(u8);

impl Manners {
    pub(super) fn has(self, manner: Manner) -> bool {
        self.0 & 1 << manner as u8 != 0
    }

    fn with(self, manner: Manner) -> Self {
        Manners(self.0 | 1 << manner as u8)
    }
}

impl Round<'_> {
    pub(super) fn describe(&self) -> String {
        self.at.describe(self.signature)
    }

    /// The number of the round after it: what counters of those who are done with it say.
    fn next(&self) -> u32 {
        self.index.wrapping_add(1)
    }

    /// The slot of a member.
    #[inline]
    pub(super) fn slot(&self, member: usize) -> Slot {
        Slot(self.at.span(self.at.channel.slot(member, self.index), slot::LEN))
    }

    fn manner_of(&self, member: usize) -> Manner {
        Signature::manner(&self.at.signature_of(member, self.index))
    }

    /// What a member has published first.
    pub(super) fn post_of(&self, member: usize) -> Post {
        match self.manner_of(member) {
            Manner::Copied => Post::Copied,
            Manner::Started => Post::Started,
            Manner::Elsewhere => {
                let mut places = [0; 2];
                self.slot(member).room(size_of_val(&places)).read(&mut places);
                Post::Where(places)
            }
        }
    }

    #[inline]
    fn publish(&self, post: Post) {
        let me = self.at.group.rank;
        if let Post::Where(places) = post {
            self.slot(me).room(size_of_val(&places)).write(&places);
        }
        let words = Signature::with_manner(*self.words, post.manner());
        let at = self.at.channel.slot(me, self.index) + slot::SIGNATURE;
        self.at.span(at, size_of::<Encoded>()).write(&words);
        self.at.posted(me, self.index).publish(self.next());
    }

    #[inline]
    fn wait_posted(&self) -> Result<()> {
        self.wait_for_all(|member| self.at.posted(member, self.index), reaches(self.next()))
    }

    /// Waits until `has_come` is true of each other member and the value of its counter.
    #[inline]
    fn wait_for_all<'b>(
        &self,
        counter: impl Fn(usize) -> Counter<'b> + Copy,
        has_come: impl Fn(usize, u32) -> bool + Copy,
    ) -> Result<()> {
        for member in self.others() {
            let one = counter(member);
            if !has_come(member, one.load()) {
                let is_missing = move |member: usize| !has_come(member, counter(member).load());
                let ready = move |value| has_come(member, value);
                one.wait(self.at.member.patience, ready, |waited| self.check(&is_missing, waited))?;
            }
        }
        Ok(())
    }

    fn check(&self, is_missing: &dyn Fn(usize) -> bool, waited: Duration) -> Result<()> {
        self.at.check_progress(self.others(), is_missing, waited, &|| self.at.describe(self.signature))
    }

    /// Compares what all do. How they have begun; this member with `own`, as reading what one has just written would
    /// wait until the others no longer look at it.
    #[inline]
    fn compare(&self, own: Post) -> Result<Manners> {
        let mut manners = Manners::default().with(own.manner());
        for member in self.others() {
            let theirs = self.at.signature_of(member, self.index);
            if !Signature::agree(self.words, &theirs) {
                return Err(self.mismatch(member, &theirs));
            }
            manners = manners.with(Signature::manner(&theirs));
        }
        Ok(manners)
    }

    #[cold]
    fn mismatch(&self, other: usize, theirs: &Encoded) -> Error {
        let theirs = Signature::decode(theirs);
        let theirs = theirs.map_or_else(|| "something unknown".to_owned(), |s| self.at.describe(&s));
        let (me, ranks) = (self.at.group.rank, &self.at.group.ranks);
        Error::mismatch([(ranks[me], self.at.describe(self.signature)), (ranks[other], theirs)])
    }

    fn others(&self) -> impl Iterator<Item = usize> + Clone + use<'_> {
        let me = self.at.group.rank;
        (0..self.at.group.size()).filter(move |&member| member != me)
    }
}

/// Whether the value of a counter, which wraps, has come to `target`.
fn reaches(target: u32) -> impl Fn(usize, u32) -> bool + Copy {
    move |_, value| value.wrapping_sub(target).cast_signed() >= 0
}
