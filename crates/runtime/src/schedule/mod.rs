//! What a rank will exchange, in order, so that the ranks can compare before the first run.

mod compare;
mod groups;
mod order;
mod wire;

use std::fmt;

use mslite_collective::{CollectiveKind, GroupName};
use mslite_graph_opt::ir::Node;
use mslite_graph_opt::ir::op::{Collective, If, Loop};
use mslite_graph_opt::{Graph, Op};
use mslite_tensor::{DType, Dim, TensorSpec};

pub(crate) use compare::fault;
pub use compare::{Disagreement, Side, compare};
pub use groups::{GroupRanks, group_ranks};
pub use order::{Event, Sends};

use crate::{Error, ErrorKind, Result};

/// The collectives of one rank, in the order in which it issues them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The steps.
    pub steps: Vec<Step>,
}

/// What a rank does with others, or where it depends on data whether or how often it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An exchange.
    Exchange(Exchange),
    /// One of two ways.
    Branch {
        /// MindIR scope of the node.
        origin: String,
        /// Steps where the condition holds, and where it does not; not both are empty.
        ways: [Vec<Step>; 2],
    },
    /// Turns, one or more.
    Loop {
        /// MindIR scope of the node.
        origin: String,
        /// Steps of a turn.
        body: Vec<Step>,
    },
}

/// A collective as a rank issues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Name of the group; one name stands for all ranks, however the model calls them.
    pub group: GroupName,
    /// World ranks of the group.
    pub ranks: Vec<usize>,
    /// The other side, for messages between two ranks.
    pub message: Option<Message>,
    /// What is done.
    pub kind: CollectiveKind,
    /// Element type and number of elements of what this rank gives, or takes if it gives nothing; `None` when no
    /// data are moved. The number is `None` when not even the number of axes is known.
    pub data: Option<(DType, Option<Dim>)>,
    /// MindIR scope of the node.
    pub origin: String,
}

/// A message between two ranks; ranks are world ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Who sends.
    pub from: usize,
    /// Who receives.
    pub to: usize,
    /// Which of the messages between these two.
    pub tag: i64,
}

impl Schedule {
    /// The schedule of a graph at rank `rank` of the world; `groups` has the groups that it names, as
    /// [`group_ranks`] gives them. Two ways of a branch that begin or end alike do so outside of it.
    ///
    /// # Errors
    /// [`ErrorKind::PlanMismatch`] when an operation names a peer that its group does not have, or itself.
    pub fn new(graph: &Graph, groups: &GroupRanks, rank: usize) -> Result<Self> {
        Ok(Schedule { steps: Reader { groups, rank }.steps(graph)? })
    }

    /// All exchanges, those of branches and loops once, each with whether data decide if or how often it is done.
    pub fn exchanges(&self) -> Vec<(&Exchange, bool)> {
        fn collect<'a>(steps: &'a [Step], inside: bool, found: &mut Vec<(&'a Exchange, bool)>) {
            for step in steps {
                match step {
                    Step::Exchange(exchange) => found.push((exchange, inside)),
                    Step::Branch { ways, .. } => ways.iter().for_each(|way| collect(way, true, found)),
                    Step::Loop { body, .. } => collect(body, true, found),
                }
            }
        }
        let mut found = Vec::new();
        collect(&self.steps, false, &mut found);
        found
    }
}

impl Exchange {
    /// Bytes of what this rank gives, or takes if it gives nothing.
    pub fn bytes(&self) -> Option<u64> {
        let Some((dtype, count)) = &self.data else { return Some(0) };
        u64::try_from(count.as_ref()?.as_usize()?).ok()?.checked_mul(dtype.size() as u64)
    }

    /// Whether this rank sends a message.
    fn sends(&self) -> bool {
        matches!(self.kind, CollectiveKind::Send { .. })
    }

    /// Whether two members of a group do the same, or two ranks the two sides of a message.
    fn fits(&self, other: &Exchange) -> bool {
        let same_kind = self.message.is_some() || self.kind == other.kind;
        same_kind && self.message == other.message && self.data == other.data && self.ranks == other.ranks
    }
}

impl fmt::Display for Exchange {
    /// `all_reduce(sum) of 6 f32 in ranks [0, 1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match &self.data {
            Some((dtype, Some(count))) => write!(f, " of {count} {dtype}")?,
            Some((dtype, None)) => write!(f, " of an unknown number of {dtype}")?,
            None => {}
        }
        write!(f, " in ranks {:?}", self.ranks)
    }
}

/// Reads the steps of one rank.
struct Reader<'a> {
    groups: &'a GroupRanks,
    rank: usize,
}

impl Reader<'_> {
    fn steps(&self, graph: &Graph) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (_, node) in graph.nodes() {
            match &node.op {
                Op::Collective(op) => steps.push(Step::Exchange(self.exchange(graph, node, op)?)),
                Op::If(If { then, otherwise }) => {
                    branch(&node.origin, self.steps(then)?, self.steps(otherwise)?, &mut steps);
                }
                Op::Loop(Loop { body, .. }) => {
                    let body = self.steps(body)?;
                    if !body.is_empty() {
                        steps.push(Step::Loop { origin: node.origin.to_string(), body });
                    }
                }
                _ => {}
            }
        }
        Ok(steps)
    }

    fn exchange(&self, graph: &Graph, node: &Node, collective: &Collective) -> Result<Exchange> {
        let name = &collective.op.group;
        let ranks = self.groups.get(name).cloned().unwrap_or_default();
        let message = self.message(collective, &ranks, &node.origin)?;
        let value = node.operands.first().or(node.results.first());
        Ok(Exchange {
            group: if name.is_world() { GroupName::world() } else { name.clone() },
            ranks,
            message,
            kind: collective.op.kind.clone(),
            data: value.map(|&value| data(graph.spec(value))),
            origin: node.origin.to_string(),
        })
    }

    fn message(&self, collective: &Collective, ranks: &[usize], origin: &str) -> Result<Option<Message>> {
        let rank = self.rank;
        let Some(place) = collective.op.kind.peer() else { return Ok(None) };
        let fail = |reason: String| {
            let message = format!("rank {rank} has {}, which names {reason}", collective.op);
            Err(Error::new(ErrorKind::PlanMismatch, message).with("node", origin))
        };
        let Some(&peer) = ranks.get(place) else {
            return fail(format!("rank {place} of a group of {}", ranks.len()));
        };
        let message = match collective.op.kind {
            CollectiveKind::Send { tag, .. } => Message { from: rank, to: peer, tag },
            CollectiveKind::Receive { tag, .. } => Message { from: peer, to: rank, tag },
            _ => return Ok(None),
        };
        if peer == rank { fail("this rank itself".to_owned()) } else { Ok(Some(message)) }
    }
}

fn data(spec: &TensorSpec) -> (DType, Option<Dim>) {
    let count = spec.shape.dims().map(|dims| dims.iter().fold(1.into(), |n: Dim, dim| &n * dim));
    (spec.dtype, count)
}

/// Appends what two ways do, taking out how both begin and how both end.
fn branch(origin: &str, mut then: Vec<Step>, mut otherwise: Vec<Step>, steps: &mut Vec<Step>) {
    let same = then.iter().zip(&otherwise).take_while(|(a, b)| is_like(a, b)).count();
    steps.extend(then.drain(..same));
    otherwise.drain(..same);
    let same = then.iter().rev().zip(otherwise.iter().rev()).take_while(|(a, b)| is_like(a, b)).count();
    let end = then.split_off(then.len() - same);
    otherwise.truncate(otherwise.len() - same);
    if !(then.is_empty() && otherwise.is_empty()) {
        steps.push(Step::Branch { origin: origin.to_owned(), ways: [then, otherwise] });
    }
    steps.extend(end);
}

/// Whether one rank's steps are the same to the others.
fn is_like(a: &Step, b: &Step) -> bool {
    let all = |a: &[Step], b: &[Step]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_like(a, b));
    match (a, b) {
        (Step::Exchange(a), Step::Exchange(b)) => a.group == b.group && a.kind == b.kind && a.fits(b),
        (Step::Branch { ways: a, .. }, Step::Branch { ways: b, .. }) => {
            all(&a[0], &b[0]) && all(&a[1], &b[1])
        }
        (Step::Loop { body: a, .. }, Step::Loop { body: b, .. }) => all(a, b),
        _ => false,
    }
}
