//! One rank in one group: operations are compared, and then their steps are taken.
//!
//! Members exchange the description of each operation in pairs. What is short travels with it; what is not waits until
//! all descriptions have come and agree. All messages are between two ranks, of known length, and in memory of ours:
//! nothing that a rank does wrongly can write elsewhere, or wait without an end, at another one.

use std::collections::VecDeque;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mslite_tensor::{Buffer, HostSpan, Stream};

use super::blocks::Blocks;
use super::header::{self, Header};
use super::library::{self, Receiving, Sending};
use super::member::{Context, Presence, lost};
use super::messages::Inbox;
use super::plan::{Gossip, ONE_SHOT, Plan, Transfer, largest_message};
use super::wait::Awaited;
use crate::call::Call;
use crate::env::fnv1a;
use crate::shared::{Signature, Span};
use crate::{Collective, CollectiveKind, CollectiveOp, Error, Group, MAX_RANKS, Result};

/// Steps under way at once.
const WINDOW: usize = 2;

/// One rank in one group, over MPI.
pub(super) struct MpiGroup {
    pub(super) member: Arc<Presence>,
    pub(super) group: Group,
    /// Tells groups apart, in notices and in descriptions of operations.
    pub(super) scope: u64,
    /// Of collectives; messages between two ranks have the next one.
    tag: i32,
    progress: Mutex<Progress>,
    pub(super) outbox: Mutex<Blocks>,
    pub(super) inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Progress {
    operations: u64,
    /// By member: the description of its last operation.
    last: Vec<Option<Header>>,
    blocks: Blocks,
    scratch: Vec<u8>,
}

impl MpiGroup {
    /// Does not wait for the other members.
    pub(super) fn open(member: &Arc<Presence>, group: Group) -> Result<Self> {
        let tag = member.enter(&group)?;
        let scope = fnv1a(format!("{:?} {}", group.ranks, group.name).as_bytes()).max(1);
        let progress = Mutex::new(Progress { last: vec![None; group.size()], ..Progress::default() });
        let (outbox, inbox) = (Mutex::default(), Mutex::default());
        Ok(MpiGroup { member: Arc::clone(member), group, scope, tag, progress, outbox, inbox })
    }

    pub(super) fn message_tag(&self) -> i32 {
        self.tag + 1
    }

    /// Everybody's bytes, by rank.
    pub(super) fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let n = self.group.size();
        let mut progress = self.begin(&Signature::exchange())?;
        let mut lens = vec![0u64; n];
        let mut mine = (bytes.len() as u64).to_ne_bytes();
        let all: Vec<Span> =
            lens.chunks_mut(1).map(|len| Span::of_slice(bytemuck::cast_slice_mut(len))).collect();
        let gossip = Gossip { mine: Span::of_slice(&mut mine), all: &all, me: self.group.rank };
        self.run(&mut progress, &Signature::exchange(), &gossip)?;
        let mut mine = bytes.to_vec();
        let mut out: Vec<Vec<u8>> = lens.iter().map(|&len| vec![0; len as usize]).collect();
        let all: Vec<Span> = out.iter_mut().map(|bytes| Span::of_slice(bytes)).collect();
        let gossip = Gossip { mine: Span::of_slice(&mut mine), all: &all, me: self.group.rank };
        self.run(&mut progress, &Signature::exchange(), &gossip)?;
        Ok(out)
    }

    fn collective(&self, kind: &CollectiveKind, call: &Call<Span>) -> Result<()> {
        let signature = Signature::new(kind, call.dtype, call.count);
        let mut progress = self.begin(&signature)?;
        let mut scratch = std::mem::take(&mut progress.scratch);
        if matches!(kind, CollectiveKind::Reduce { .. }) {
            scratch.resize(largest_message(self.group.size()), 0);
        }
        let room = Span::of_slice(&mut scratch);
        let transfer = Transfer::new(kind, call, self.group.rank, self.group.size(), room);
        let result = self.run(&mut progress, &signature, &transfer);
        progress.scratch = scratch;
        result
    }

    /// A turn in this group, unless it has failed.
    fn begin(&self, signature: &Signature) -> Result<MutexGuard<'_, Progress>> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&|| self.describe(signature))?;
        Ok(progress)
    }

    pub(super) fn check(&self, operation: &dyn Fn() -> String) -> Result<()> {
        self.member.hear()?;
        self.member.check(self.scope, operation)
    }

    pub(super) fn describe(&self, signature: &Signature) -> String {
        format!("{signature} in group {:?}", self.group.name.as_str())
    }

    /// Runs an operation, and makes its failure everybody's.
    fn run(&self, progress: &mut Progress, signature: &Signature, plan: &dyn Plan) -> Result<()> {
        progress.operations += 1;
        let header = Header::new(self, signature, progress.operations);
        let mut running = Running { at: self, header, signature, progress };
        running.all(plan).or_else(|error| self.member.fail(self.scope, error))
    }

    /// What a member did last in this group.
    fn last_words(&self, last: Option<&Header>, rank: usize) -> String {
        match last.and_then(Header::signature) {
            None => format!("rank {rank} has not come to any collective of this group"),
            Some(signature) => {
                let number = last.map_or(0, |header| header.number);
                format!("rank {rank} has come to collective {number} of this group, {signature}")
            }
        }
    }
}

impl Collective for MpiGroup {
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
        if op.kind.reduction().is_some() && self.group.size() > MAX_RANKS {
            return Err(Error::Unsupported(format!("{op}: reductions are of at most {MAX_RANKS} ranks")));
        }
        if send.host().is_none() || recv.host().is_none() {
            return Err(library::beyond_host(op));
        }
        let call = Call::on_host(op, &self.group, send, Some(recv), stream)?;
        match op.kind {
            CollectiveKind::Send { dest, .. } => self.send(dest, &op.kind, &call),
            CollectiveKind::Receive { src, tag } => self.receive(src, tag, &op.kind, &call),
            _ => self.collective(&op.kind, &call),
        }
    }

    fn watch(&self, _: Duration) -> Result<()> {
        self.check(&String::new)?;
        self.member.check_left(&self.group.ranks, &String::new)
    }

    fn abort(&self) {
        self.member.give_up(self.scope, &format!("it gave up group {:?}", self.group.name.as_str()));
    }
}

/// An operation under way.
struct Running<'a> {
    at: &'a MpiGroup,
    header: Header,
    signature: &'a Signature,
    progress: &'a mut Progress,
}

impl Running<'_> {
    fn all(&mut self, plan: &dyn Plan) -> Result<()> {
        let is_short = plan.steps() == 1 && plan.largest() <= ONE_SHOT;
        let first = self.meet(plan, is_short)?;
        if is_short {
            plan.take(0, &|member| first.span(member, header::LEN));
            return self.clear(first);
        }
        self.clear(first)?;
        let (mut under_way, mut done) = (VecDeque::new(), 0);
        for step in 0..plan.steps() {
            while done < plan.needs(step) || under_way.len() == WINDOW {
                self.finish(plan, &mut under_way, &mut done)?;
            }
            under_way.push_back(self.start(plan, step)?);
        }
        while !under_way.is_empty() {
            self.finish(plan, &mut under_way, &mut done)?;
        }
        Ok(())
    }

    /// Exchanges the descriptions of the operation, with all data of it if it is short, and compares them.
    fn meet(&mut self, plan: &dyn Plan, is_short: bool) -> Result<Flight> {
        let capacity = header::LEN + ONE_SHOT;
        let mut flight = self.flight();
        for to in self.others() {
            flight.incoming[to] = Some(self.receive(to, capacity)?);
        }
        let mut words = self.header.encode();
        for to in self.others() {
            let data = if is_short { plan.outgoing(0, to) } else { None };
            let spans = [Span::of_slice(&mut words), data.unwrap_or(Span::of_slice(&mut []))];
            self.send(&mut flight, to, capacity, &spans[..])?;
        }
        flight.expected = Some(self.header);
        self.wait(&mut flight)?;
        for (member, message) in flight.come.iter().enumerate() {
            let header = message.as_ref().and_then(|(block, len)| Header::decode(&block[..*len]));
            self.progress.last[member] = header.or(self.progress.last[member]);
            let came = message.as_ref().map_or(0, |(_, len)| len - header::LEN);
            let wanted = if is_short { plan.incoming(0, member).unwrap_or(0) } else { 0 };
            self.check_length(member, came, wanted)?;
        }
        Ok(flight)
    }

    /// Starts the messages of a step.
    fn start(&mut self, plan: &dyn Plan, step: usize) -> Result<Flight> {
        let capacity = largest_message(self.at.group.size());
        let mut flight = self.flight();
        for from in self.others() {
            if plan.incoming(step, from).is_some() {
                flight.incoming[from] = Some(self.receive(from, capacity)?);
            }
        }
        for to in self.others() {
            if let Some(data) = plan.outgoing(step, to) {
                self.send(&mut flight, to, capacity, &[data])?;
            }
        }
        Ok(flight)
    }

    /// Waits for the messages of the oldest step, and uses them.
    fn finish(&mut self, plan: &dyn Plan, under_way: &mut VecDeque<Flight>, done: &mut usize) -> Result<()> {
        let Some(mut flight) = under_way.pop_front() else { return Ok(()) };
        self.wait(&mut flight)?;
        for (member, message) in flight.come.iter().enumerate() {
            let came = message.as_ref().map_or(0, |(_, len)| *len);
            self.check_length(member, came, plan.incoming(*done, member).unwrap_or(0))?;
        }
        plan.take(*done, &|member| flight.span(member, 0));
        *done += 1;
        self.clear(flight)
    }

    fn check_length(&self, member: usize, came: usize, wanted: usize) -> Result<()> {
        if came == wanted || member == self.at.group.rank {
            return Ok(());
        }
        let reason = format!("it sent {came} bytes instead of {wanted}");
        Err(lost(self.at.group.ranks[member], &reason, self.at.describe(self.signature)))
    }

    fn flight(&self) -> Flight {
        let n = self.at.group.size();
        let none = |_| None;
        Flight {
            incoming: (0..n).map(none).collect(),
            come: (0..n).map(|_| None).collect(),
            outgoing: Vec::with_capacity(n),
            expected: None,
            sent: None,
        }
    }

    fn receive(&mut self, from: usize, capacity: usize) -> Result<Receiving> {
        let (rank, tag) = (self.at.group.ranks[from], self.at.tag);
        let receiving =
            self.at.member.communicator.receive(self.progress.blocks.empty(capacity), Some(rank), tag);
        receiving.map_err(|error| self.lost(rank, &error))
    }

    /// What goes to several members in turn is copied once.
    fn send(&mut self, flight: &mut Flight, to: usize, capacity: usize, spans: &[Span]) -> Result<()> {
        let (address, len) = spans.last().map_or((0, 0), |data| (data.address(), data.len()));
        let is_same = |copied: &Copied| (copied.address, copied.len) == (address, len);
        let block = match flight.sent.take().filter(is_same) {
            Some(copied) => copied.block,
            None => self.progress.blocks.filled(capacity, spans),
        };
        let total = spans.iter().map(|span| span.len()).sum();
        let rank = self.at.group.ranks[to];
        let sending = self.at.member.communicator.send(&block, total, rank, self.at.tag);
        flight.outgoing.push((rank, sending.map_err(|error| self.lost(rank, &error))?));
        flight.sent = Some(Copied { block, address, len });
        Ok(())
    }

    fn wait(&mut self, flight: &mut Flight) -> Result<()> {
        let (at, progress) = (self.at, &*self.progress);
        let position = |rank: usize| at.group.ranks.iter().position(|&r| r == rank).unwrap_or(0);
        let last_words = |rank: usize| at.last_words(progress.last[position(rank)].as_ref(), rank);
        let operation = || at.describe(self.signature);
        let context = Context { scope: at.scope, operation: &operation, last_words: &last_words };
        let mut arrival = Arrival { at, signature: self.signature, flight };
        at.member.wait(&mut arrival, &context)
    }

    fn lost(&self, rank: usize, error: &Error) -> Error {
        lost(rank, &error.to_string(), self.at.describe(self.signature))
    }

    /// Takes the memory of a step back.
    fn clear(&mut self, flight: Flight) -> Result<()> {
        flight.come.into_iter().flatten().for_each(|(block, _)| self.progress.blocks.give_back(block));
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.at.group.rank;
        (0..self.at.group.size()).filter(move |&member| member != me)
    }
}

/// The block that was sent last, and where its data come from.
struct Copied {
    block: Arc<[u8]>,
    address: usize,
    len: usize,
}

/// The messages of a step, by member.
struct Flight {
    incoming: Vec<Option<Receiving>>,
    come: Vec<Option<(Box<[u8]>, usize)>>,
    outgoing: Vec<(usize, Sending)>,
    /// What all messages begin with, if it is described.
    expected: Option<Header>,
    sent: Option<Copied>,
}

impl Flight {
    /// What has come from a member, after `skip` bytes.
    fn span(&self, member: usize, skip: usize) -> Span {
        match &self.come[member] {
            Some((block, len)) => {
                let bytes = &block[skip..*len];
                Span::from(HostSpan { ptr: NonNull::from(bytes).cast(), len: bytes.len() })
            }
            None => Span::of_slice(&mut []),
        }
    }
}

/// A step until all its messages have gone and come.
struct Arrival<'a> {
    at: &'a MpiGroup,
    signature: &'a Signature,
    flight: &'a mut Flight,
}

impl Arrival<'_> {
    /// Takes a message in, if it has come.
    fn take(&mut self, member: usize) -> Result<bool> {
        let Some(receiving) = &mut self.flight.incoming[member] else { return Ok(true) };
        let rank = self.at.group.ranks[member];
        let polled = receiving.poll();
        let polled = polled.map_err(|e| lost(rank, &e.to_string(), self.at.describe(self.signature)))?;
        let Some(received) = polled else { return Ok(false) };
        self.flight.incoming[member] = None;
        let bytes = &received.block[..received.len];
        let Some(expected) = self.flight.expected else {
            self.flight.come[member] = Some((received.block, received.len));
            return Ok(true);
        };
        let header = Header::decode(bytes);
        if header.is_none_or(|header| header.world != expected.world) {
            // It was sent in an earlier world, to a group that is gone.
            let next = self.at.member.communicator.receive(received.block, Some(rank), self.at.tag)?;
            self.flight.incoming[member] = Some(next);
            return Ok(false);
        }
        if let Some(header) = header.filter(|header| *header != expected) {
            return Err(header::mismatch(self.at, (self.at.group.rank, &expected), (member, &header)));
        }
        self.flight.come[member] = Some((received.block, received.len));
        Ok(true)
    }
}

impl Awaited for Arrival<'_> {
    fn is_done(&mut self) -> Result<bool> {
        for member in 0..self.flight.incoming.len() {
            if !self.take(member)? {
                return Ok(false);
            }
        }
        while let Some((rank, sending)) = self.flight.outgoing.last_mut() {
            let rank = *rank;
            let done = sending.is_done();
            if !done.map_err(|e| lost(rank, &e.to_string(), self.at.describe(self.signature)))? {
                return Ok(false);
            }
            self.flight.outgoing.pop();
        }
        self.flight.sent = None;
        Ok(true)
    }

    fn missing(&mut self) -> Result<Vec<usize>> {
        let mut missing = Vec::new();
        for member in 0..self.flight.incoming.len() {
            if !self.take(member)? {
                missing.push(self.at.group.ranks[member]);
            }
        }
        if missing.is_empty() {
            for (rank, sending) in &mut self.flight.outgoing {
                if !sending.is_done()? {
                    missing.push(*rank);
                }
            }
        }
        Ok(missing)
    }
}

impl fmt::Debug for MpiGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MpiGroup").field("group", &self.group).finish_non_exhaustive()
    }
}
