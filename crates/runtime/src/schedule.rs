//! What a rank will exchange, in order, so that the ranks can compare before the first run.

use std::collections::BTreeMap;

use mslite_collective::{CollectiveKind, GroupName};
use mslite_graph_opt::ir::op::Collective;
use mslite_graph_opt::{Graph, Op};
use mslite_tensor::{Shape, TensorSpec};

use crate::{Error, ErrorKind, Result};

/// World ranks of each group, by name.
pub type GroupRanks = BTreeMap<GroupName, Vec<usize>>;

/// The collectives of one rank, in the order in which it issues them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    group: String,
    /// World ranks of the group.
    ranks: Vec<usize>,
    /// World ranks of sender and receiver, and the tag, for messages between two ranks.
    message: Option<(usize, usize, i64)>,
    is_send: bool,
    /// Kind, reduction, element type and count: what both sides must agree on.
    what: String,
    /// MindIR scope of the node.
    origin: String,
}

impl Schedule {
    /// The schedule of a graph at rank `rank` of the world. What stands in branches and loops counts once: that
    /// the ranks take the same turns depends on data.
    ///
    /// # Errors
    /// [`ErrorKind::PlanMismatch`] when an operation names a peer that its group does not have, or itself.
    pub fn new(graph: &Graph, groups: &GroupRanks, rank: usize) -> Result<Self> {
        let mut entries = Vec::new();
        for (graph, node) in graph.nodes_within() {
            let Op::Collective(collective) = &node.op else { continue };
            let ranks = groups.get(&collective.op.group).cloned().unwrap_or_default();
            let message = message(collective, &ranks, rank, &node.origin)?;
            let spec = match (node.operands.first(), node.results.first()) {
                (Some(&value), _) | (None, Some(&value)) => Some(graph.spec(value)),
                (None, None) => None,
            };
            let is_send = matches!(collective.op.kind, CollectiveKind::Send { .. });
            let kind = if message.is_some() { "message".to_owned() } else { collective.op.kind.to_string() };
            entries.push(Entry {
                group: collective.op.group.to_string(),
                ranks,
                message,
                is_send,
                what: describe(&kind, spec),
                origin: node.origin.to_string(),
            });
        }
        Ok(Schedule { entries })
    }

    /// Bytes for the other ranks.
    pub fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        for entry in &self.entries {
            let ranks = entry.ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let message = match entry.message {
                Some((from, to, tag)) => format!("{from},{to},{tag},{}", u8::from(entry.is_send)),
                None => String::new(),
            };
            let fields = [&entry.group, &ranks, &message, &entry.what, &entry.origin];
            lines.push_str(&fields.map(|field| escape(field)).join("\t"));
            lines.push('\n');
        }
        lines.into_bytes()
    }

    /// Reads what another rank has encoded.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let lines = std::str::from_utf8(bytes).ok()?.lines();
        let entries = lines.map(|line| {
            let fields: Vec<String> = line.split('\t').map(unescape).collect();
            let [group, ranks, message, what, origin] = <[String; 5]>::try_from(fields).ok()?;
            let numbers = |text: &str| -> Option<Vec<i64>> {
                text.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect()
            };
            let ranks =
                numbers(&ranks)?.into_iter().map(|r| usize::try_from(r).ok()).collect::<Option<_>>()?;
            let (message, is_send) = match numbers(&message)?[..] {
                [] => (None, false),
                [from, to, tag, send] => {
                    (Some((usize::try_from(from).ok()?, usize::try_from(to).ok()?, tag)), send != 0)
                }
                _ => return None,
            };
            Some(Entry { group, ranks, message, is_send, what, origin })
        });
        Some(Schedule { entries: entries.collect::<Option<_>>()? })
    }
}

fn message(
    collective: &Collective,
    ranks: &[usize],
    rank: usize,
    origin: &str,
) -> Result<Option<(usize, usize, i64)>> {
    let (peer, tag) = match collective.op.kind {
        CollectiveKind::Send { dest, tag } => (dest, tag),
        CollectiveKind::Receive { src, tag } => (src, tag),
        _ => return Ok(None),
    };
    let fail = |reason: String| {
        let message = format!("rank {rank} has {} at {origin}, which names {reason}", collective.op);
        Err(Error::new(ErrorKind::PlanMismatch, message))
    };
    match ranks.get(peer) {
        None => fail(format!("rank {peer} of a group of {}", ranks.len())),
        Some(&peer) if peer == rank => fail("this rank itself".to_owned()),
        Some(&peer) if matches!(collective.op.kind, CollectiveKind::Send { .. }) => {
            Ok(Some((rank, peer, tag)))
        }
        Some(&peer) => Ok(Some((peer, rank, tag))),
    }
}

fn describe(kind: &str, spec: Option<&TensorSpec>) -> String {
    let Some(spec) = spec else { return kind.to_owned() };
    let count = |shape: &Shape| match shape.dims() {
        Some(dims) => dims.iter().fold(1.into(), |n: mslite_tensor::Dim, dim| &n * dim).to_string(),
        None => "an unknown number".to_owned(),
    };
    format!("{kind} of {} {}", count(&spec.shape), spec.dtype)
}

/// Checks that the schedules of all ranks, in order of rank, fit each other: every group sees one sequence of
/// operations, and every message that is sent is received.
///
/// # Errors
/// [`ErrorKind::PlanMismatch`], naming the first difference with the nodes of both ranks. All ranks that compare
/// the same schedules get the same error.
pub fn compare(schedules: &[Schedule]) -> Result<()> {
    let mut groups: BTreeMap<&str, &[usize]> = BTreeMap::new();
    for entry in schedules.iter().flat_map(|schedule| &schedule.entries) {
        groups.entry(&entry.group).or_insert(&entry.ranks);
    }
    for (group, ranks) in groups {
        compare_group(schedules, group, ranks)?;
    }
    compare_messages(schedules)
}

fn compare_group(schedules: &[Schedule], group: &str, ranks: &[usize]) -> Result<()> {
    let sequence = |rank: usize| -> Vec<&Entry> {
        let entries = schedules.get(rank).map(|s| s.entries.as_slice()).unwrap_or_default();
        entries.iter().filter(|entry| entry.group == group && entry.message.is_none()).collect()
    };
    let Some((&first, rest)) = ranks.split_first() else { return Ok(()) };
    let expected = sequence(first);
    for &rank in rest {
        let actual = sequence(rank);
        for at in 0..expected.len().max(actual.len()) {
            let (a, b) = (expected.get(at).copied(), actual.get(at).copied());
            let same = matches!((a, b), (Some(a), Some(b)) if a.what == b.what && a.ranks == b.ranks);
            if !same {
                return Err(mismatch(&format!("operation {at} of group {group:?}"), (first, a), (rank, b)));
            }
        }
    }
    Ok(())
}

fn compare_messages(schedules: &[Schedule]) -> Result<()> {
    type Sides<'a> = [Vec<&'a Entry>; 2];
    let mut channels: BTreeMap<(usize, usize, i64), Sides<'_>> = BTreeMap::new();
    for entry in schedules.iter().flat_map(|schedule| &schedule.entries) {
        if let Some(channel) = entry.message {
            channels.entry(channel).or_default()[usize::from(!entry.is_send)].push(entry);
        }
    }
    for ((from, to, tag), [sent, received]) in channels {
        for at in 0..sent.len().max(received.len()) {
            let (a, b) = (sent.get(at).copied(), received.get(at).copied());
            if !matches!((a, b), (Some(a), Some(b)) if a.what == b.what) {
                let what = format!("message {at} with tag {tag} from rank {from} to rank {to}");
                return Err(mismatch(&what, (from, a), (to, b)));
            }
        }
    }
    Ok(())
}

/// That the ranks' models do not fit each other, and why.
pub(crate) fn unfit(why: &str) -> Error {
    let message =
        format!("the models do not fit each other: {why}; give every rank its own slice of one model");
    Error::new(ErrorKind::PlanMismatch, message)
}

fn mismatch(what: &str, a: (usize, Option<&Entry>), b: (usize, Option<&Entry>)) -> Error {
    let side = |(rank, entry): (usize, Option<&Entry>)| match entry {
        Some(entry) => {
            format!("rank {rank} has {} in ranks {:?} at {}", entry.what, entry.ranks, entry.origin)
        }
        None => format!("rank {rank} has none"),
    };
    unfit(&format!("{what}: {}, {}", side(a), side(b)))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                other => out.extend(other),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use mslite_collective::{CollectiveOp, Reduction};
    use mslite_graph_opt::GraphBuilder;
    use mslite_tensor::DType;

    use super::*;

    fn schedule(rank: usize, ops: &[(CollectiveKind, usize)]) -> Result<Schedule> {
        let mut builder = GraphBuilder::new("g");
        for (i, (kind, n)) in ops.iter().enumerate() {
            let spec = TensorSpec::fixed(DType::F32, &[*n]);
            let x = builder.input(format!("x{i}"), spec.clone());
            let collective = Collective {
                op: CollectiveOp::new(kind.clone(), "g"),
                size: Some(2),
                ranks: None,
                receives: Some(spec),
            };
            let operands = &[x][..collective.arity().0];
            builder.push(Op::Collective(collective), operands, &format!("node\t{i}").into())?;
        }
        let groups = GroupRanks::from([("g".into(), vec![0, 1])]);
        Schedule::new(&builder.finish()?, &groups, rank)
    }

    #[test]
    fn equal_sequences_and_mirrored_messages_fit() {
        use CollectiveKind::{AllReduce, Receive, Send};
        let a = schedule(
            0,
            &[(Send { dest: 1, tag: 1 }, 4), (Send { dest: 1, tag: 0 }, 5), (AllReduce(Reduction::Sum), 6)],
        );
        let b = schedule(
            1,
            &[
                (Receive { src: 0, tag: 0 }, 5),
                (Receive { src: 0, tag: 1 }, 4),
                (AllReduce(Reduction::Sum), 6),
            ],
        );
        let schedules = [a.unwrap(), b.unwrap()];
        for schedule in &schedules {
            assert_eq!(Schedule::decode(&schedule.encode()).as_ref(), Some(schedule));
        }
        compare(&schedules).unwrap();
    }

    #[test]
    fn the_first_difference_is_named_with_both_nodes() {
        use CollectiveKind::{AllGather, AllReduce};
        let cases = [
            (
                vec![(AllReduce(Reduction::Sum), 6), (AllGather, 2)],
                "operation 1 of group \"g\": rank 0 has all_gather of 2 f32",
            ),
            (vec![(AllReduce(Reduction::Max), 6)], "operation 0"),
            (vec![(AllReduce(Reduction::Sum), 7)], "rank 1 has all_reduce(sum) of 6 f32"),
            (vec![], "operation 0 of group \"g\": rank 0 has none"),
        ];
        for (ops, expected) in cases {
            let pair = [schedule(0, &ops).unwrap(), schedule(1, &[(AllReduce(Reduction::Sum), 6)]).unwrap()];
            let error = compare(&pair).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PlanMismatch);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn swapped_pipeline_stages_are_noticed_by_one_rank_alone() {
        let error = schedule(0, &[(CollectiveKind::Receive { src: 0, tag: 0 }, 4)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PlanMismatch);
        assert!(schedule(0, &[(CollectiveKind::Send { dest: 2, tag: 0 }, 4)]).is_err());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [&b"a\tb"[..], b"g\tx\t\tw\to\n", b"\xff\n", b"g\t0,1\t1,2\tw\to\n"] {
            assert_eq!(Schedule::decode(bytes), None);
        }
    }
}
