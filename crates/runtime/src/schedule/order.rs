//! An order in which the exchanges of all ranks can happen, if there is one.

use std::collections::{BTreeMap, VecDeque};

use super::compare::{Disagreement, Side};
use super::{Exchange, Message, Schedule, Step};

/// What becomes of a message that nobody has asked for yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// The sender waits until the receiver asks for it.
    Wait,
    /// So many bytes from one rank to another in a group are kept for the receiver, and the sender goes on. Who waits
    /// for one message takes others that come before it out of the way.
    Keep(usize),
}

/// An exchange that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// What the first member of the group does, or who receives.
    pub exchange: &'a Exchange,
    /// Whether data decide if, or how often, it happens.
    pub conditional: bool,
}

/// Bytes that a message takes beside its data, at most.
const HEADER: usize = 64;

/// How much longer schedules may become when loops take two turns; where it would be more, they take one.
const GROWTH: usize = 16;

const ADVICE: &str = "change the order of the exchanges in the model, so that one of the ranks comes first";

/// Lets the ranks go through schedules that fit each other, and sees whether they reach the end. Both ways of a
/// branch are gone after each other, and loops take two turns: what works so works whatever data decide.
///
/// # Errors
/// The ranks that wait for each other in a circle.
pub(super) fn order(schedules: &[Schedule], sends: Sends) -> Result<Vec<Event<'_>>, Disagreement> {
    let length = |turns| schedules.iter().map(|s| length(&s.steps, turns)).fold(0, usize::saturating_add);
    let turns = if length(2) <= length(1).saturating_mul(GROWTH) { 2 } else { 1 };
    let mut ranks: Vec<Issues<'_>> = vec![Vec::new(); schedules.len()];
    for (schedule, issued) in schedules.iter().zip(&mut ranks) {
        issue(&schedule.steps, Issued::default(), turns, issued);
    }
    let size = ranks.len();
    let mut run = Run {
        ranks,
        at: vec![0; size],
        ready: (0..size).collect(),
        arrived: BTreeMap::new(),
        links: BTreeMap::new(),
        sends,
        events: Vec::new(),
    };
    while let Some(rank) = run.ready.pop_front() {
        run.arrive(rank);
    }
    match run.circle() {
        Some(circle) => Err(circle),
        None => Ok(run.events),
    }
}

/// How an exchange is issued.
#[derive(Debug, Clone, Copy, Default)]
struct Issued {
    conditional: bool,
    again: bool,
}

type Issues<'a> = Vec<(&'a Exchange, Issued)>;

fn length(steps: &[Step], turns: usize) -> usize {
    let all = |steps: &[Step]| length(steps, turns);
    let lengths = steps.iter().map(|step| match step {
        Step::Exchange(_) => 1,
        Step::Branch { ways, .. } => all(&ways[0]).saturating_add(all(&ways[1])),
        Step::Loop { body, .. } => all(body).saturating_mul(turns),
    });
    lengths.fold(0, usize::saturating_add)
}

fn issue<'a>(steps: &'a [Step], how: Issued, turns: usize, issued: &mut Issues<'a>) {
    let inside = Issued { conditional: true, ..how };
    for step in steps {
        match step {
            Step::Exchange(exchange) => issued.push((exchange, how)),
            Step::Branch { ways, .. } => ways.iter().for_each(|way| issue(way, inside, turns, issued)),
            Step::Loop { body, .. } => (0..turns).for_each(|turn| {
                issue(body, Issued { again: how.again || turn > 0, ..inside }, turns, issued);
            }),
        }
    }
}

/// What is under way from one rank to another in a group.
#[derive(Default)]
struct Link {
    /// Tags and bytes of messages that are kept, in order.
    kept: VecDeque<(i64, usize)>,
    /// Tags of messages that the receiver took out of the way.
    inbox: Vec<i64>,
    /// Tag and bytes of the message whose sender waits.
    sender: Option<(i64, usize)>,
    /// Tag that the receiver waits for.
    receiver: Option<i64>,
}

impl Link {
    fn has_room(&self, bytes: usize, sends: Sends) -> bool {
        let Sends::Keep(capacity) = sends else { return false };
        let taken = |(_, bytes): &(i64, usize)| bytes.saturating_add(HEADER);
        self.kept.iter().map(taken).fold(bytes, usize::saturating_add) <= capacity
    }

    /// Lets sender and receiver do what they can: whether each of them goes on.
    fn advance(&mut self, sends: Sends) -> [bool; 2] {
        let mut goes_on = [false, false];
        loop {
            if let Some(tag) = self.receiver {
                goes_on[1] |= self.take(tag, sends);
            }
            match self.sender {
                Some((tag, _)) if self.receiver == Some(tag) => {
                    (self.sender, self.receiver) = (None, None);
                    return [true, true];
                }
                Some((tag, _)) if self.receiver.is_some() && sends != Sends::Wait => self.inbox.push(tag),
                Some((tag, bytes)) if self.has_room(bytes, sends) => self.kept.push_back((tag, bytes)),
                _ => return goes_on,
            }
            self.sender = None;
            goes_on[0] = true;
        }
    }

    /// Whether the receiver finds what it waits for among the messages that are here.
    fn take(&mut self, tag: i64, sends: Sends) -> bool {
        debug_assert!(sends != Sends::Wait || self.kept.is_empty());
        if let Some(at) = self.inbox.iter().position(|&other| other == tag) {
            self.inbox.remove(at);
            self.receiver = None;
            return true;
        }
        while let Some((other, _)) = self.kept.pop_front() {
            if other == tag {
                self.receiver = None;
                return true;
            }
            self.inbox.push(other);
        }
        false
    }
}

struct Run<'a> {
    /// What each rank issues.
    ranks: Vec<Issues<'a>>,
    /// How much of it has happened.
    at: Vec<usize>,
    /// Ranks that have something new to issue.
    ready: VecDeque<usize>,
    /// How many members have come to the next operation of a group.
    arrived: BTreeMap<(&'a str, &'a [usize]), usize>,
    links: BTreeMap<(&'a str, usize, usize), Link>,
    sends: Sends,
    events: Vec<Event<'a>>,
}

impl<'a> Run<'a> {
    fn next(&self, rank: usize) -> Option<(&'a Exchange, Issued)> {
        self.ranks.get(rank)?.get(self.at[rank]).copied()
    }

    fn arrive(&mut self, rank: usize) {
        let Some((exchange, _)) = self.next(rank) else { return };
        match exchange.message {
            Some(message) => self.deliver(exchange, message),
            None => self.meet(exchange),
        }
    }

    fn meet(&mut self, exchange: &'a Exchange) {
        let arrived = self.arrived.entry((exchange.group.as_str(), &exchange.ranks)).or_insert(0);
        *arrived += 1;
        if *arrived == exchange.ranks.len() {
            *arrived = 0;
            self.happens(exchange.ranks[0]);
            exchange.ranks.iter().for_each(|&rank| self.go_on(rank));
        }
    }

    fn deliver(&mut self, exchange: &'a Exchange, Message { from, to, tag }: Message) {
        let link = self.links.entry((exchange.group.as_str(), from, to)).or_default();
        match exchange.sends() {
            // Who does not know how large a message is cannot count on there being room for it.
            true => link.sender = Some((tag, exchange.bytes().map_or(usize::MAX, |n| n as usize))),
            false => link.receiver = Some(tag),
        }
        let [sent, received] = link.advance(self.sends);
        if received {
            self.happens(to);
            self.go_on(to);
        }
        if sent {
            self.go_on(from);
        }
    }

    fn happens(&mut self, rank: usize) {
        if let Some((exchange, Issued { conditional, again: false })) = self.next(rank) {
            self.events.push(Event { exchange, conditional });
        }
    }

    fn go_on(&mut self, rank: usize) {
        if let Some(at) = self.at.get_mut(rank) {
            *at += 1;
            self.ready.push_back(rank);
        }
    }

    /// A rank that the next step of this one needs, and that has not come to it.
    fn waits_for(&self, rank: usize) -> Option<usize> {
        let (exchange, _) = self.next(rank)?;
        let is_there = |other: usize| {
            self.next(other).is_some_and(|(e, _)| {
                e.message.is_none() && e.group == exchange.group && e.ranks == exchange.ranks
            })
        };
        match exchange.message {
            Some(message) => Some(if exchange.sends() { message.to } else { message.from }),
            None => exchange.ranks.iter().copied().find(|&other| !is_there(other)),
        }
    }

    /// The ranks that wait for each other.
    fn circle(&self) -> Option<Disagreement> {
        let first = (0..self.ranks.len()).find(|&rank| self.next(rank).is_some())?;
        let mut path = vec![first];
        while let Some(next) = path.last().and_then(|&rank| self.waits_for(rank)) {
            if let Some(start) = path.iter().position(|&rank| rank == next) {
                path.drain(..start);
                break;
            }
            path.push(next);
        }
        let least = path.iter().enumerate().min_by_key(|(_, rank)| **rank).map_or(0, |(at, _)| at);
        path.rotate_left(least);
        let sides = path.iter().filter_map(|&rank| {
            let (exchange, _) = self.next(rank)?;
            let operation = match self.waits_for(rank) {
                Some(other) => format!("{exchange}, waiting for rank {other},"),
                None => exchange.to_string(),
            };
            Some(Side {
                rank,
                operation: Some(operation),
                instead: None,
                node: Some(exchange.origin.clone()),
            })
        });
        let what = "these ranks wait for each other in a circle".to_owned();
        Some(Disagreement { what, sides: sides.collect(), advice: ADVICE })
    }
}
