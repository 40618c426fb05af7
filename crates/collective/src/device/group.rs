//! One rank in one group, over a library of a vendor.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mslite_tensor::{Buffer, DType, HostStream, Stream};

use super::call::{Call, Place};
use super::compare::Description;
use super::driver::{Communicator, Driver, Part, Task};
use super::memory::Staging;
use super::transport::Shared;
use super::wait::wait_until;
use crate::{Collective, CollectiveExt, CollectiveKind, CollectiveOp, Error, Group, Result};

/// How long an operation may still take after a member was lost: it may have done its part before.
const GRACE: Duration = Duration::from_millis(300);

/// One rank in one group.
pub(super) struct DeviceGroup {
    pub(super) group: Group,
    /// The same group in the control world.
    control: Arc<dyn Collective>,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// The first failure; nothing works after it.
    failure: OnceLock<Error>,
    /// When the control world was first seen to have failed.
    lost_since: OnceLock<Instant>,
}

#[derive(Default)]
struct State {
    /// `None` after a failure.
    communicator: Option<Box<dyn Communicator>>,
    staging: Option<Staging>,
    last: Option<(CollectiveKind, DType, usize)>,
    operations: u64,
    /// Messages by source and destination.
    messages: HashMap<(usize, usize), u64>,
    splits: usize,
}

/// Why an operation failed, and who knows.
enum Failure {
    /// Nothing was exchanged; the group goes on.
    Refused(Error),
    /// The control world has told every member.
    Known(Error),
    /// Only this rank knows.
    Found(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidArgument(_) | Error::Unsupported(_) => Failure::Refused(error),
            error => Failure::Found(error),
        }
    }
}

impl DeviceGroup {
    /// Meets the other members through the control world, then in the library.
    pub(super) fn open(shared: &Arc<Shared>, group: Group) -> Result<Arc<Self>> {
        let opened = DeviceGroup::prepare(shared, group)?;
        let invitation = opened.share_invitation()?;
        let wait =
            |what: &dyn fmt::Display, is_done: &mut dyn FnMut() -> Result<bool>| opened.wait(what, is_done);
        let communicator = shared.vendor.join(&opened.group, &invitation, &wait);
        opened.settle(communicator)
    }

    /// The part of this group that this rank is in, made by the library.
    pub(super) fn split(&self, part: Option<Group>) -> Result<Option<Arc<Self>>> {
        let mut state = self.living()?;
        let number = state.splits;
        state.splits += 1;
        let wait =
            |what: &dyn fmt::Display, is_done: &mut dyn FnMut() -> Result<bool>| self.wait(what, is_done);
        let mine = part.as_ref().map(|group| Part { ranks: &group.ranks, rank: group.rank, number });
        let communicator = state.communicator()?.split(mine.as_ref(), &wait);
        let communicator = communicator.map_err(|error| self.end(&mut state, error.into()))?;
        drop(state);
        let Some((group, communicator)) = part.zip(communicator) else { return Ok(None) };
        DeviceGroup::prepare(&self.shared, group)?.settle(Ok(communicator)).map(Some)
    }

    fn prepare(shared: &Arc<Shared>, group: Group) -> Result<Self> {
        let control = shared.control.group(group.name.as_str(), &group.ranks)?;
        Ok(DeviceGroup {
            group,
            control,
            shared: Arc::clone(shared),
            state: Mutex::default(),
            failure: OnceLock::new(),
            lost_since: OnceLock::new(),
        })
    }

    fn settle(self, communicator: Result<Box<dyn Communicator>>) -> Result<Arc<Self>> {
        match communicator {
            Ok(communicator) => {
                // Now, since streams that record a graph allow no allocation.
                let staging = Staging::new(self.driver());
                let mut state = self.lock();
                state.communicator = Some(communicator);
                state.staging = Some(staging.map_err(|error| self.end(&mut state, error.into()))?);
            }
            Err(error) => {
                self.shared.control.abort(&error.to_string());
                return Err(error);
            }
        }
        Ok(Arc::new(self))
    }

    /// What the group's first rank made, or why it could not.
    fn share_invitation(&self) -> Result<Vec<u8>> {
        let made = (self.group.rank == 0).then(|| self.shared.vendor.invite(&self.group));
        let mut header = match &made {
            Some(Ok(bytes)) => [bytes.len() as u64, 0],
            Some(Err(error)) => [error.to_string().len() as u64, 1],
            None => [0, 0],
        };
        self.control.broadcast(&mut header, 0)?;
        let mut bytes = match &made {
            Some(Ok(bytes)) => bytes.clone(),
            Some(Err(error)) => error.to_string().into_bytes(),
            None => vec![0; header[0] as usize],
        };
        self.control.broadcast(&mut bytes, 0)?;
        match (made, header[1]) {
            (Some(Err(error)), _) => Err(error),
            (_, 0) => Ok(bytes),
            _ => {
                let reason = format!("rank {}: {}", self.group.ranks[0], String::from_utf8_lossy(&bytes));
                Err(Error::Library { call: "making a group".to_owned(), reason })
            }
        }
    }

    pub(super) fn name(&self) -> Option<String> {
        self.lock().communicator.as_ref().and_then(|communicator| communicator.name())
    }

    fn driver(&self) -> &Arc<dyn Driver> {
        self.shared.vendor.driver()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        self.has_failed().map_or(Ok(state), Err)
    }

    fn has_failed(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    /// Gives the group up for a reason that the control world knows or is told elsewhere.
    pub(super) fn give_up(&self, error: Error) {
        let _ = self.failure.set(error);
        self.lock().abort(self.shared.timeout());
    }

    /// What comes of a failure: unless nothing was exchanged, the group ends, and others are told.
    fn end(&self, state: &mut State, failure: Failure) -> Error {
        let error = match failure {
            Failure::Refused(error) => return error,
            Failure::Known(error) => error,
            Failure::Found(error) => self.tell(error),
        };
        state.abort(self.shared.timeout());
        self.failure.get_or_init(|| error).clone()
    }

    /// Tells the others, unless the control world knows more: it names the rank that is lost.
    fn tell(&self, error: Error) -> Error {
        if self.has_failed().is_some() {
            return error;
        }
        let cause = if matches!(error, Error::Library { .. }) { self.cause() } else { None };
        let error = cause.unwrap_or(error);
        if matches!(error, Error::PeerLost { .. }) {
            // The control world fails with that in an operation of its own, and so tells everybody.
            return self.control.barrier().err().unwrap_or(error);
        }
        self.shared.control.abort(&error.to_string());
        error
    }

    /// What the control world says of a failure that the library reports.
    fn cause(&self) -> Option<Error> {
        let over = |waited| match waited < GRACE {
            true => Ok(()),
            false => Err(Error::Aborted { reason: String::new() }),
        };
        let mut cause = None;
        let mut is_known = || {
            cause = self.control.watch(Duration::ZERO).err();
            Ok(cause.is_some())
        };
        // Not to know more is no failure of its own.
        let _ = wait_until(&mut is_known, &over);
        cause
    }

    /// Waits in a call of the library, `what`, which does not notice by itself that others are lost.
    fn wait(&self, what: &dyn fmt::Display, is_done: &mut dyn FnMut() -> Result<bool>) -> Result<()> {
        wait_until(is_done, &|waited| self.check_others(waited, what))
    }

    /// Whether the others still can take part.
    fn check_others(&self, waited: Duration, what: &dyn fmt::Display) -> Result<()> {
        if let Some(error) = self.has_failed() {
            return Err(error);
        }
        if let Err(error) = self.control.watch(waited) {
            let since = self.lost_since.get_or_init(Instant::now);
            let is_over = matches!(error, Error::Cancelled { .. }) || since.elapsed() >= GRACE;
            return if is_over { Err(error) } else { Ok(()) };
        }
        if waited < self.shared.timeout() {
            return Ok(());
        }
        let me = self.group.rank;
        let others = (0..self.group.size()).filter(|&member| member != me);
        Err(Error::Timeout {
            missing: others.map(|member| self.group.ranks[member]).collect(),
            waited,
            operation: what.to_string(),
            detail: "the library does not tell which of them is late, or whether they do something else"
                .to_owned(),
        })
    }

    /// Whether operations on some stream still can finish.
    fn check(&self, state: &State, waited: Duration) -> Result<()> {
        if let Some(communicator) = &state.communicator {
            communicator.check()?;
        }
        self.check_others(waited, &LastOperation(&state.last))
    }

    fn perform(
        &self,
        state: &mut State,
        op: &CollectiveOp,
        call: &Call,
        stream: Option<usize>,
    ) -> Result<(), Failure> {
        let units = self.shared.vendor.units(&op.kind, call.dtype);
        let units = units.map_err(|why| Error::Unsupported(format!("{op}: {why}")))?;
        let number = state.count(&op.kind, call, self.group.rank);
        if self.shared.compare {
            self.compare(&op.kind, call, number)?;
        }
        if call.count == 0 && op.kind != CollectiveKind::Barrier {
            return Ok(());
        }
        let wait =
            |what: &dyn fmt::Display, is_done: &mut dyn FnMut() -> Result<bool>| self.wait(what, is_done);
        let mut task = Task {
            kind: &op.kind,
            units,
            count: call.count * units.per_element,
            send: 0,
            recv: 0,
            stream: 0,
            scratch: state.staging()?.scratch.address,
            rank: self.group.rank,
            size: self.group.size(),
            wait: &wait,
        };
        match stream {
            Some(stream) => {
                task.stream = stream;
                (task.send, task.recv) = (address(call.send), address(call.recv));
                state.communicator()?.issue(&task).map_err(Failure::from)
            }
            None => self.run_and_wait(state, call, &mut task).map_err(Failure::from),
        }
    }

    fn compare(&self, kind: &CollectiveKind, call: &Call, number: u64) -> Result<(), Failure> {
        let what = format!("{}[{}]", call.dtype, call.count);
        let compared = Description { kind, what, number }.compare(&*self.control);
        compared.map_err(|error| match (&error, kind) {
            // Who sends has gone on.
            (Error::Mismatch { .. }, CollectiveKind::Receive { .. }) => Failure::Found(error),
            _ => Failure::Known(error),
        })
    }

    /// On a stream of our own, with copies of what is in the host's memory.
    fn run_and_wait(&self, state: &mut State, call: &Call, task: &mut Task<'_>) -> Result<()> {
        let driver = self.driver();
        let staged = |place: Option<Place>| place.map_or(0, |p| p.staged_len().next_multiple_of(256));
        let staging = state.staging()?;
        let (base, offset) = (staging.reserve(staged(call.send) + staged(call.recv))?, staged(call.send));
        task.stream = staging.stream.handle;
        task.send = call.send.map_or(0, |place| place.address_or(base));
        task.recv = call.recv.map_or(0, |place| place.address_or(base + offset));
        if let Some(Place::Host(span)) = call.send {
            driver.upload(span, task.send, task.stream)?;
        }
        state.communicator()?.issue(task)?;
        self.wait_own(state)?;
        if let Some(Place::Host(span)) = call.recv {
            driver.download(task.recv, span, task.stream)?;
            self.wait_own(state)?;
        }
        Ok(())
    }

    fn wait_own(&self, state: &State) -> Result<()> {
        let is_idle = || state.staging.as_ref().map_or(Ok(true), |staging| staging.stream.is_idle());
        wait_until(&mut { is_idle }, &|waited| self.check(state, waited))
    }

    fn stream(&self, op: &CollectiveOp, stream: &dyn Stream, call: &Call) -> Result<Option<usize>> {
        if (stream as &dyn Any).is::<HostStream>() {
            return Ok(None);
        }
        let api = self.driver().api();
        let Some(device) = stream.device().filter(|device| device.api == api) else {
            return Err(Error::Unsupported(format!(
                "{op} on a stream of neither {api} nor the host: {stream:?}"
            )));
        };
        let is_host = |place: Option<Place>| matches!(place, Some(Place::Host(_)));
        if is_host(call.send) || is_host(call.recv) {
            return Err(Error::Unsupported(format!("{op} on host memory, in order with a stream of {api}")));
        }
        Ok(Some(device.handle))
    }
}

impl Collective for DeviceGroup {
    fn group(&self) -> &Group {
        &self.group
    }

    fn supports(&self, op: &CollectiveOp) -> bool {
        self.group.has_all_of(op)
    }

    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<()> {
        let call = Call::check(op, &self.group, send, recv, self.driver().api())?;
        let stream = self.stream(op, stream, &call)?;
        let mut state = self.living()?;
        self.perform(&mut state, op, &call, stream).map_err(|failure| self.end(&mut state, failure))
    }

    fn watch(&self, waited: Duration) -> Result<()> {
        if let Some(error) = self.has_failed() {
            return Err(error);
        }
        // Whoever has the lock watches, too.
        let Ok(mut state) = self.state.try_lock() else { return Ok(()) };
        self.check(&state, waited).map_err(|error| self.end(&mut state, Failure::Found(error)))
    }

    fn abort(&self) {
        let reason = format!("it gave up group {:?}", self.group.name.as_str());
        self.control.abort();
        self.give_up(Error::Aborted { reason });
    }
}

impl State {
    fn gone() -> Error {
        Error::Aborted { reason: "the group has failed".to_owned() }
    }

    fn communicator(&mut self) -> Result<&mut Box<dyn Communicator>> {
        self.communicator.as_mut().ok_or_else(State::gone)
    }

    fn staging(&mut self) -> Result<&mut Staging> {
        self.staging.as_mut().ok_or_else(State::gone)
    }

    /// The number of an operation, which it becomes the last one by.
    fn count(&mut self, kind: &CollectiveKind, call: &Call, me: usize) -> u64 {
        self.last = Some((kind.clone(), call.dtype, call.count));
        let counter = match *kind {
            CollectiveKind::Send { dest, .. } => self.messages.entry((me, dest)).or_default(),
            CollectiveKind::Receive { src, .. } => self.messages.entry((src, me)).or_default(),
            _ => &mut self.operations,
        };
        *counter += 1;
        *counter
    }

    /// Ends the communicator. Memory that a stream may still use is never freed.
    fn abort(&mut self, patience: Duration) {
        if let Some(mut communicator) = self.communicator.take() {
            communicator.abort();
        }
        let Some(staging) = self.staging.take() else { return };
        let late = |waited| match waited < patience.min(Duration::from_secs(1)) {
            true => Ok(()),
            false => Err(Error::Aborted { reason: String::new() }),
        };
        if wait_until(&mut || staging.stream.is_idle(), &late).is_err() {
            std::mem::forget(staging);
        }
    }
}

/// What was enqueued last, in words.
struct LastOperation<'a>(&'a Option<(CollectiveKind, DType, usize)>);

impl fmt::Display for LastOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((CollectiveKind::Barrier, ..)) => f.write_str("barrier"),
            Some((kind, dtype, count)) => write!(f, "{kind} of {dtype}[{count}]"),
            None => Ok(()),
        }
    }
}

impl Place {
    fn staged_len(self) -> usize {
        if matches!(self, Place::Host(_)) { self.len() } else { 0 }
    }

    fn address_or(self, staged: usize) -> usize {
        match self {
            Place::Device(address, _) => address,
            Place::Host(_) => staged,
        }
    }
}

/// Where a buffer is that is on the device.
fn address(place: Option<Place>) -> usize {
    place.map_or(0, |place| place.address_or(0))
}

impl fmt::Debug for DeviceGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceGroup").field("group", &self.group).finish_non_exhaustive()
    }
}
