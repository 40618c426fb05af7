//! One rank's place in a world over MPI, and what it hears from the others besides data.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::library::{Communicator, Receiving, Sending};
use super::notice::{self, Notice, WORLD};
use super::process;
use super::wait::{Awaited, Patience};
use crate::cancellation::cancelled;
use crate::env::fnv1a;
use crate::{Cancellation, Error, Group, JoinOptions, Result};

/// How long a message from a rank that has left may still be under way.
const GRACE: Duration = Duration::from_millis(100);

/// Bytes that may be under way to others while nobody waits for them.
const OUTBOX: usize = 1 << 20;

/// Holds a rank in its world. Dropping it leaves the world: whoever needs this rank later is told.
#[derive(Debug)]
pub(super) struct Presence(Arc<Member>);

/// One rank's place in a world.
pub(super) struct Member {
    pub(super) rank: usize,
    pub(super) size: usize,
    pub(super) timeout: Duration,
    pub(super) cancellation: Cancellation,
    patience: Patience,
    /// Tells worlds apart: messages of an earlier one may still be under way.
    pub(super) world: u64,
    hosts: Vec<String>,
    /// Messages that the sender does not wait for, with their lengths.
    outbox: Mutex<Vec<(usize, Sending)>>,
    hearing: Mutex<Hearing>,
    pub(super) communicator: Arc<Communicator>,
}

/// What the others have said.
struct Hearing {
    incoming: Option<Receiving>,
    outgoing: Vec<Sending>,
    /// By rank: why it has left.
    left: Vec<Option<String>>,
    /// By rank: what it waits for.
    waits: Vec<Option<String>>,
    failures: Vec<Failure>,
    /// Groups of this rank, with their tags.
    groups: Vec<(String, Vec<usize>, i32)>,
    /// Groups that others have announced.
    announced: Vec<(usize, String, Vec<usize>)>,
    has_left: bool,
    communicator: Arc<Communicator>,
    /// Of notices in this world.
    tag: i32,
}

struct Failure {
    scope: u64,
    reporter: usize,
    error: Error,
}

/// Which operation waits, for the errors that may come of it.
pub(super) struct Context<'a> {
    /// The group.
    pub(super) scope: u64,
    pub(super) operation: &'a dyn Fn() -> String,
    /// What a rank did last.
    pub(super) last_words: &'a dyn Fn(usize) -> String,
}

impl Member {
    /// A member of the world with this number, over the communicator of all its ranks.
    pub(super) fn new(
        communicator: Arc<Communicator>,
        world: u64,
        hosts: Vec<String>,
        options: &JoinOptions,
    ) -> Result<Self> {
        let (rank, size) = (communicator.rank, communicator.size);
        let here = hosts.iter().filter(|&host| *host == hosts[rank]).count();
        let mut hearing = Hearing {
            incoming: None,
            outgoing: Vec::new(),
            left: vec![None; size],
            waits: vec![None; size],
            failures: Vec::new(),
            groups: Vec::new(),
            announced: Vec::new(),
            has_left: false,
            tag: tag(&communicator, world, "notices"),
            communicator: Arc::clone(&communicator),
        };
        hearing.listen(None)?;
        let (outbox, hearing, patience) = (Mutex::default(), Mutex::new(hearing), Patience::new(here));
        let (timeout, cancellation) = (options.timeout, options.cancellation.clone());
        Ok(Member {
            rank,
            size,
            timeout,
            cancellation,
            patience,
            world,
            hosts,
            outbox,
            hearing,
            communicator,
        })
    }

    /// Enters a group of this rank, of which the other members are told, and gives the tag of its messages; the next
    /// one is free, too.
    pub(super) fn enter(&self, group: &Group) -> Result<i32> {
        self.hear()?;
        // Who joins last may find the world failed already, and learns of it in its first operation.
        if !group.name.is_world() {
            self.check(WORLD, &|| format!("opening group {:?}", group.name.as_str()))?;
        }
        let tag = tag(&self.communicator, self.world, &format!("group {}", group.name));
        let name = notice::shortened(group.name.as_str()).to_owned();
        let mut hearing = self.hearing();
        if let Some((other, ..)) =
            hearing.groups.iter().find(|(other, _, used)| *used == tag && *other != name)
        {
            let text =
                format!("groups {other:?} and {name:?} cannot be told apart over MPI: rename one of them");
            return Err(Error::InvalidArgument(text));
        }
        hearing.groups.push((name.clone(), group.ranks.clone(), tag));
        let disagrees = hearing
            .announced
            .iter()
            .find_map(|(rank, name, ranks)| hearing.disagreement(self.rank, *rank, name, ranks));
        let ranks = group.ranks.clone();
        hearing.tell(self, &Notice::Opened { name, ranks }, &mut group.ranks.iter().copied());
        drop(hearing);
        disagrees.map_or(Ok(()), |error| self.fail(WORLD, error))?;
        Ok(tag)
    }

    /// Waits until it is done, unless something has failed, a rank that is missing has left, or it takes too long.
    pub(super) fn wait(&self, what: &mut dyn Awaited, context: &Context<'_>) -> Result<()> {
        let mut has_told = false;
        let result = self.patience.wait(what, |what, waited| {
            self.hear()?;
            self.check(context.scope, context.operation)?;
            if waited >= GRACE {
                self.check_missing(&what.missing()?, waited, context)?;
            }
            if waited >= self.timeout / 2 && !std::mem::replace(&mut has_told, true) {
                self.tell_of_waiting(&what.missing()?, context);
            }
            Ok(())
        });
        result.or_else(|error| self.check(context.scope, context.operation).and(Err(error)))
    }

    fn check_missing(&self, missing: &[usize], waited: Duration, context: &Context<'_>) -> Result<()> {
        self.check_left(missing, context.operation)?;
        let hearing = self.hearing();
        if waited < self.timeout || missing.is_empty() {
            return Ok(());
        }
        let words = |&rank: &usize| {
            let host = &self.hosts[rank];
            let waits = hearing.waits[rank].as_ref().map_or(String::new(), |text| format!("; {text}"));
            format!("{} (on {host}){waits}", (context.last_words)(rank))
        };
        let detail = missing.iter().map(words).collect::<Vec<_>>().join("; ");
        let (missing, operation) = (missing.to_vec(), (context.operation)());
        Err(Error::Timeout { missing, waited: self.timeout, operation, detail })
    }

    /// Says for whom this rank waits, so that those who give up can say it.
    fn tell_of_waiting(&self, missing: &[usize], context: &Context<'_>) {
        let list: Vec<String> = missing.iter().map(usize::to_string).collect();
        let text = format!("rank {} waits in {} for {}", self.rank, (context.operation)(), list.join(", "));
        self.tell(&Notice::Waits { text });
    }

    /// Takes in what the others say.
    pub(super) fn hear(&self) -> Result<()> {
        let mut hearing = self.hearing();
        while let Some(message) = hearing.incoming.as_mut().map_or(Ok(None), Receiving::poll)? {
            let notice = Notice::decode(&message.block[..message.len], self.world);
            let src = message.src;
            hearing.listen(Some(message.block))?;
            if let Some(notice) = notice.filter(|_| src < self.size) {
                hearing.take(self, src, notice);
            }
        }
        // Who has gone needs no answer.
        hearing.outgoing.retain_mut(|sending| sending.is_done() == Ok(false));
        drop(hearing);
        self.outbox().retain_mut(|(_, sending)| sending.is_done() == Ok(false));
        Ok(())
    }

    /// Fails if the world or a group has failed, or this rank is to end it.
    pub(super) fn check(&self, scope: u64, operation: &dyn Fn() -> String) -> Result<()> {
        if let Some(by) = self.cancellation.by() {
            self.cancel(by);
        }
        let hearing = self.hearing();
        let failure = hearing.failure(WORLD).or_else(|| hearing.failure(scope));
        failure.map_or(Ok(()), |failure| {
            Err(notice::seen_by(&failure.error, failure.reporter, self.rank, operation()))
        })
    }

    /// Makes an error that this rank found everybody's, unless the group has been given up before. The answer is the error.
    pub(super) fn fail<T>(&self, scope: u64, error: Error) -> Result<T> {
        let given_up = self.hearing().failure(scope).is_some();
        if !given_up && notice::concerns_others(&error) {
            self.report(WORLD, error.clone());
        }
        Err(error)
    }

    /// Gives up the world or a group.
    pub(super) fn give_up(&self, scope: u64, reason: &str) {
        self.report(scope, lost(self.rank, reason, String::new()));
    }

    /// Ends the world as [`Cancellation::cancel`] does.
    pub(super) fn cancel(&self, by: &str) {
        self.report(WORLD, cancelled(self.rank, by, String::new()));
    }

    /// Fails if one of these ranks has left.
    pub(super) fn check_left(&self, ranks: &[usize], operation: &dyn Fn() -> String) -> Result<()> {
        let hearing = self.hearing();
        for &rank in ranks {
            if let Some(reason) = &hearing.left[rank] {
                return Err(lost(rank, reason, operation()));
            }
        }
        Ok(())
    }

    fn report(&self, scope: u64, error: Error) {
        let mut hearing = self.hearing();
        if hearing.failure(scope).is_none() {
            let told = Notice::Failed { scope, error: error.clone() };
            hearing.failures.push(Failure { scope, reporter: self.rank, error });
            hearing.tell(self, &told, &mut (0..self.size));
        }
    }

    fn tell(&self, notice: &Notice) {
        self.hearing().tell(self, notice, &mut (0..self.size));
    }

    /// Keeps a message that nobody waits for. Waits until not too many are under way.
    pub(super) fn post(
        &self,
        len: usize,
        sending: Sending,
        dest: usize,
        context: &Context<'_>,
    ) -> Result<()> {
        let under_way = |outbox: &[(usize, Sending)]| outbox.iter().map(|(len, _)| len).sum::<usize>();
        let is_full = {
            let mut outbox = self.outbox();
            outbox.push((len, sending));
            under_way(&outbox) > OUTBOX
        };
        if !is_full {
            return Ok(());
        }
        self.wait(&mut Emptying { member: self, dest, limit: OUTBOX / 2 }, context)
    }

    /// Says that this rank ends, when its messages have gone.
    pub(super) fn leave(&self) {
        if std::mem::replace(&mut self.hearing().has_left, true) {
            return;
        }
        let nobody = |_: usize| String::new();
        let context = Context { scope: WORLD, operation: &|| "leaving".to_owned(), last_words: &nobody };
        // Whoever has failed does not ask for what is under way.
        let _ = self.wait(&mut Emptying { member: self, dest: self.rank, limit: 0 }, &context);
        let panics = std::thread::panicking();
        let reason = if panics { "it panicked" } else { "it has left the world" }.to_owned();
        self.tell(&Notice::Left { reason });
        let since = Instant::now();
        while self.hear().is_ok() && !self.hearing().outgoing.is_empty() && since.elapsed() < GRACE {
            std::thread::yield_now();
        }
    }

    /// Why the world has failed, or else a part of it.
    pub(super) fn failure(&self) -> Option<Error> {
        let hearing = self.hearing();
        hearing.failure(WORLD).or(hearing.failures.first()).map(|failure| failure.error.clone())
    }

    /// Whether all ranks leave in time.
    pub(super) fn wait_until_all_left(&self, limit: Duration) -> bool {
        let since = Instant::now();
        let all_left =
            || self.hearing().left.iter().enumerate().all(|(r, left)| r == self.rank || left.is_some());
        while self.hear().is_ok() && since.elapsed() < limit {
            if all_left() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Vec<(usize, Sending)>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    pub(super) fn new(member: Member) -> Self {
        let member = Arc::new(member);
        process::remember(&member);
        Presence(member)
    }
}

impl Deref for Presence {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave();
        if self.failure().is_none() {
            process::forget(&self.0);
        }
    }
}

impl Hearing {
    /// Waits for the next notice.
    fn listen(&mut self, block: Option<Box<[u8]>>) -> Result<()> {
        let capacity = notice::capacity(self.left.len());
        let block = block.unwrap_or_else(|| vec![0; capacity].into());
        self.incoming = Some(self.communicator.receive(block, None, self.tag)?);
        Ok(())
    }

    fn tell(&mut self, member: &Member, notice: &Notice, ranks: &mut dyn Iterator<Item = usize>) {
        let bytes: Arc<[u8]> = notice.encode(member.world).into();
        for rank in ranks.filter(|&rank| rank != member.rank) {
            // Who cannot be told notices by itself.
            let sending = self.communicator.send(&bytes, bytes.len(), rank, self.tag);
            self.outgoing.extend(sending);
        }
    }

    fn take(&mut self, member: &Member, src: usize, notice: Notice) {
        match notice {
            Notice::Left { reason } => self.left[src] = Some(reason),
            Notice::Waits { text } => self.waits[src] = Some(text),
            Notice::Failed { scope, error } if self.failure(scope).is_none() => {
                self.failures.push(Failure { scope, reporter: src, error });
            }
            Notice::Failed { .. } => {}
            Notice::Opened { name, ranks } => {
                let error = self.disagreement(member.rank, src, &name, &ranks);
                self.announced.push((src, name, ranks));
                if let Some(error) = error.filter(|_| self.failure(WORLD).is_none()) {
                    let told = Notice::Failed { scope: WORLD, error: error.clone() };
                    self.failures.push(Failure { scope: WORLD, reporter: member.rank, error });
                    self.tell(member, &told, &mut (0..member.size));
                }
            }
        }
    }

    /// The error when a rank has another idea than this one of a group with this name.
    fn disagreement(&self, me: usize, rank: usize, name: &str, ranks: &[usize]) -> Option<Error> {
        let (_, mine, _) = self.groups.iter().find(|(mine, of, _)| mine == name && of != ranks)?;
        let opening = |ranks: &[usize]| format!("group {name:?} of ranks {ranks:?}");
        Some(Error::mismatch([(me, opening(mine)), (rank, opening(ranks))]))
    }

    fn failure(&self, scope: u64) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.scope == scope)
    }
}

/// Messages under way, until only few are left.
struct Emptying<'a> {
    member: &'a Member,
    dest: usize,
    limit: usize,
}

impl Awaited for Emptying<'_> {
    fn is_done(&mut self) -> Result<bool> {
        let mut outbox = self.member.outbox();
        outbox.retain_mut(|(_, sending)| sending.is_done() == Ok(false));
        Ok(outbox.iter().map(|(len, _)| len).sum::<usize>() <= self.limit)
    }

    fn missing(&mut self) -> Result<Vec<usize>> {
        Ok(vec![self.dest])
    }
}

pub(super) fn lost(rank: usize, reason: &str, operation: String) -> Error {
    Error::PeerLost { rank, reason: reason.to_owned(), operation }
}

/// The tag for a purpose in a world; the next one is free, too. The same purpose has different tags in different worlds.
fn tag(communicator: &Communicator, world: u64, purpose: &str) -> i32 {
    let tags = (communicator.largest_tag() / 2) as u64;
    (fnv1a(format!("{world} {purpose}").as_bytes()) % tags * 2) as i32
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}
