//! Whether the schedules of all ranks fit each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::order::{Event, Sends, order};
use super::{Exchange, Message, Schedule, Step};
use crate::{Error, ErrorKind};

/// Why models do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// What is wrong.
    pub what: String,
    /// What the ranks concerned do.
    pub sides: Vec<Side>,
    /// What helps.
    pub advice: &'static str,
}

/// What one rank does where ranks disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// World rank.
    pub rank: usize,
    /// What it does; `None` when it does nothing where others do something.
    pub operation: Option<String>,
    /// What it does that others do not, when it does nothing here.
    pub instead: Option<String>,
    /// MindIR scope of the node that does it.
    pub node: Option<String>,
}

/// How many faults are told, of those that ranks find in their own models.
const TOLD: usize = 2;

const OWN_SLICES: &str = "give every rank its own slice of one model";

impl Disagreement {
    /// Faults that ranks have found in their own models, by rank; the first two are told.
    pub fn of_faults<'a>(faults: impl IntoIterator<Item = (usize, &'a Error)>) -> Option<Self> {
        let faults: Vec<(usize, &Error)> = faults.into_iter().collect();
        let texts: Vec<String> = faults.iter().map(|(rank, error)| fault(*rank, error)).collect();
        let sides = faults.iter().take(TOLD).map(|&(rank, error)| {
            let node = error.context().iter().find(|(key, _)| *key == "node");
            Side { rank, operation: None, instead: None, node: node.map(|(_, node)| node.clone()) }
        });
        Some(Disagreement { sides: sides.collect(), ..Disagreement::of_texts(&texts)? })
    }

    /// The same from what [`fault`] says.
    pub(crate) fn of_texts(faults: &[impl AsRef<str>]) -> Option<Self> {
        let told: Vec<&str> = faults.iter().take(TOLD).map(AsRef::as_ref).collect();
        let what = match faults.len().saturating_sub(TOLD) {
            0 => told.join(", "),
            more => format!("{}, and {more} more ranks find faults", told.join(", ")),
        };
        (!faults.is_empty()).then(|| Disagreement { what, sides: Vec::new(), advice: OWN_SLICES })
    }
}

/// A fault that a rank has found in its own model.
pub(crate) fn fault(rank: usize, error: &Error) -> String {
    let names_rank = error.kind() == ErrorKind::PlanMismatch;
    if names_rank { error.to_string() } else { format!("rank {rank}: {error}") }
}

impl fmt::Display for Disagreement {
    /// A line. The sides are left out where none does anything: then [`Disagreement::what`] says it all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the models do not fit each other: {}", self.what)?;
        let (acting, idle): (Vec<&Side>, Vec<&Side>) =
            self.sides.iter().partition(|side| side.operation.is_some());
        for (i, side) in acting.iter().chain(idle.iter().filter(|_| !acting.is_empty())).enumerate() {
            write!(f, "{} {side}", if i == 0 { ":" } else { "," })?;
        }
        write!(f, "; {}", self.advice)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_ref().map(|node| format!(" at {node}")).unwrap_or_default();
        match (&self.operation, &self.instead) {
            (Some(operation), _) => write!(f, "rank {} has {operation}{node}", self.rank),
            (None, Some(instead)) => write!(f, "rank {} has none (it has {instead}{node})", self.rank),
            (None, None) => write!(f, "rank {} has none", self.rank),
        }
    }
}

impl From<Disagreement> for Error {
    fn from(disagreement: Disagreement) -> Self {
        Error::new(ErrorKind::PlanMismatch, disagreement.to_string())
    }
}

/// Checks that the schedules of all ranks, in order of rank, fit each other: every group sees one sequence of
/// operations, every message that is sent is received, and no ranks wait for each other in a circle when `sends`
/// says what becomes of messages that nobody has asked for yet. Ranks are taken to go the same ways and to take the
/// same turns where data decide.
///
/// Gives the exchanges in an order in which they can happen. All ranks that compare the same schedules get the same
/// answer.
///
/// # Errors
/// The first difference, with the nodes of both ranks, or the circle.
pub fn compare(schedules: &[Schedule], sends: Sends) -> Result<Vec<Event<'_>>, Disagreement> {
    let ranks: Vec<Channels<'_>> = schedules.iter().map(|schedule| channels(&schedule.steps)).collect();
    let mut seen = BTreeSet::new();
    for schedule in schedules {
        for (exchange, _) in schedule.exchanges() {
            let (channel, members) = (Channel::of(exchange), members(exchange));
            if seen.insert((channel, members.clone())) {
                compare_channel(schedules, &ranks, channel, &members)?;
            }
        }
    }
    order(schedules, sends)
}

/// What keeps an order of its own: the collectives of a group, or the messages from one rank to another that have the
/// same tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Channel<'a> {
    Group(&'a str),
    Messages(&'a str, Message),
}

impl<'a> Channel<'a> {
    fn of(exchange: &'a Exchange) -> Self {
        let name = exchange.group.as_str();
        match exchange.message {
            Some(message) => Channel::Messages(name, message),
            None => Channel::Group(name),
        }
    }
}

impl fmt::Display for Channel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Channel::Group(name) => write!(f, "of group {name:?}"),
            Channel::Messages(_, Message { from, to, tag }) => {
                write!(f, "with tag {tag} from rank {from} to rank {to}")
            }
        }
    }
}

/// The ranks that have to agree about an exchange.
fn members(exchange: &Exchange) -> Vec<usize> {
    match exchange.message {
        Some(Message { from, to, .. }) => vec![from, to],
        None => exchange.ranks.clone(),
    }
}

/// The steps of one rank, apart by channel.
type Channels<'a> = BTreeMap<Channel<'a>, Vec<Part<'a>>>;

/// A step, as far as it belongs to one channel.
enum Part<'a> {
    Exchange(&'a Exchange),
    Branch(&'a str, [Vec<Part<'a>>; 2]),
    Loop(&'a str, Vec<Part<'a>>),
}

fn channels(steps: &[Step]) -> Channels<'_> {
    let mut all = Channels::new();
    for step in steps {
        match step {
            Step::Exchange(exchange) => {
                all.entry(Channel::of(exchange)).or_default().push(Part::Exchange(exchange));
            }
            Step::Branch { origin, ways } => {
                let [then, mut otherwise] = [channels(&ways[0]), channels(&ways[1])];
                for (channel, then) in then {
                    let ways = [then, otherwise.remove(&channel).unwrap_or_default()];
                    all.entry(channel).or_default().push(Part::Branch(origin, ways));
                }
                for (channel, otherwise) in otherwise {
                    all.entry(channel).or_default().push(Part::Branch(origin, [Vec::new(), otherwise]));
                }
            }
            Step::Loop { origin, body } => {
                for (channel, body) in channels(body) {
                    all.entry(channel).or_default().push(Part::Loop(origin, body));
                }
            }
        }
    }
    all
}

fn parts<'p, 'a>(ranks: &'p [Channels<'a>], rank: usize, channel: Channel<'a>) -> &'p [Part<'a>] {
    ranks.get(rank).and_then(|channels| channels.get(&channel)).map(Vec::as_slice).unwrap_or_default()
}

fn compare_channel<'a>(
    schedules: &'a [Schedule],
    ranks: &[Channels<'a>],
    channel: Channel<'a>,
    members: &[usize],
) -> Result<(), Disagreement> {
    let Some((&first, rest)) = members.split_first() else { return Ok(()) };
    for &rank in rest {
        let (expected, actual) = (parts(ranks, first, channel), parts(ranks, rank, channel));
        if let Some((at, a, b)) = difference(expected, actual, 0) {
            let noun = if matches!(channel, Channel::Group(_)) { "operation" } else { "message" };
            let side = |rank, part| side(rank, part, || unmatched(schedules, ranks, rank));
            let mut sides = vec![side(first, a), side(rank, b)];
            sides.sort_by_key(|side| side.rank);
            return Err(Disagreement { what: format!("{noun} {at} {channel}"), sides, advice: OWN_SLICES });
        }
    }
    Ok(())
}

fn side<'a>(rank: usize, part: Option<&Part<'_>>, instead: impl FnOnce() -> Option<&'a Exchange>) -> Side {
    match part.and_then(Part::first) {
        Some((exchange, place)) => {
            let operation = Some(format!("{exchange}{place}"));
            Side { rank, operation, instead: None, node: Some(exchange.origin.clone()) }
        }
        None => {
            let (instead, node) =
                instead().map(|exchange| (exchange.to_string(), exchange.origin.clone())).unzip();
            Side { rank, operation: None, instead, node }
        }
    }
}

/// The first exchange of a rank in which another member has no part.
fn unmatched<'a>(schedules: &'a [Schedule], ranks: &[Channels<'a>], rank: usize) -> Option<&'a Exchange> {
    let count = |member, channel| parts(ranks, member, channel).iter().map(Part::count).sum::<usize>();
    let mut left: BTreeMap<Channel<'a>, usize> = BTreeMap::new();
    let exchanges = schedules.get(rank)?.exchanges();
    exchanges.into_iter().map(|(exchange, _)| exchange).find(|exchange| {
        let channel = Channel::of(exchange);
        let matched = || members(exchange).into_iter().map(|member| count(member, channel)).min();
        let left = left.entry(channel).or_insert_with(|| matched().unwrap_or(0));
        let is_matched = *left > 0;
        *left = left.saturating_sub(1);
        !is_matched
    })
}

impl<'a> Part<'a> {
    fn count(&self) -> usize {
        let all = |parts: &[Part<'_>]| parts.iter().map(Part::count).sum::<usize>();
        match self {
            Part::Exchange(_) => 1,
            Part::Branch(_, ways) => ways.iter().map(|way| all(way)).sum(),
            Part::Loop(_, body) => all(body),
        }
    }

    /// The first exchange in it, and in what it is.
    fn first(&self) -> Option<(&'a Exchange, String)> {
        match self {
            Part::Exchange(exchange) => Some((exchange, String::new())),
            Part::Branch(origin, ways) => {
                let (exchange, _) = ways.iter().flatten().find_map(Part::first)?;
                Some((exchange, format!(" in one way of the branch {origin}")))
            }
            Part::Loop(origin, body) => {
                let (exchange, _) = body.iter().find_map(Part::first)?;
                Some((exchange, format!(" in the loop {origin}")))
            }
        }
    }
}

/// The first pair of parts that differ, and how many exchanges come before it.
type Difference<'p, 'a> = (usize, Option<&'p Part<'a>>, Option<&'p Part<'a>>);

fn difference<'p, 'a>(a: &'p [Part<'a>], b: &'p [Part<'a>], before: usize) -> Option<Difference<'p, 'a>> {
    let mut at = before;
    for i in 0..a.len().max(b.len()) {
        match (a.get(i), b.get(i)) {
            (Some(Part::Exchange(x)), Some(Part::Exchange(y))) if x.fits(y) => {}
            (Some(Part::Branch(_, x)), Some(Part::Branch(_, y))) => {
                let second = at + x[0].iter().map(Part::count).sum::<usize>();
                let found = difference(&x[0], &y[0], at).or_else(|| difference(&x[1], &y[1], second));
                if found.is_some() {
                    return found;
                }
            }
            (Some(Part::Loop(_, x)), Some(Part::Loop(_, y))) => {
                if let found @ Some(_) = difference(x, y, at) {
                    return found;
                }
            }
            (x, y) => return Some((at, x, y)),
        }
        at += a.get(i).map_or(0, Part::count);
    }
    None
}
