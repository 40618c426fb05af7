//! Whether the slices of all ranks fit each other, from files alone.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use mslite_collective::rank_table::RankTable;
use mslite_collective::{CollectiveKind, TransportKind};
use mslite_graph_opt::{Graph, ImportOptions, import};
use mslite_mindir::{Parameter, Value};
use mslite_runtime::schedule::{
    Disagreement, Event, Exchange, GroupRanks, Schedule, Sends, compare, group_ranks,
};
use mslite_tensor::{DType, TensorSpec};

use crate::model::{groups_of, open};
use crate::{BuildOptions, Error, ErrorKind, Key, Mode, Result};

/// What [`check`] may need beside the models.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Files with the ranks of named communication groups: none, one for all ranks, or one for each.
    pub group_info_files: Vec<PathBuf>,
    /// Rank table of the job.
    pub rank_table: Option<PathBuf>,
    /// What the ranks will exchange data through. By default the models fit each other only if they do so over each
    /// [`TransportKind`].
    pub transport: Option<TransportKind>,
    /// Key of encrypted models.
    pub key: Option<Key>,
    /// Encryption mode that the models must have; by default the one that each file names.
    pub mode: Option<Mode>,
}

/// What [`check`] has found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Number of ranks.
    pub ranks: usize,
    /// The first reason why the models do not fit each other; `None` when they do.
    pub disagreement: Option<Disagreement>,
    /// What is exchanged in a run, in an order in which it can happen; empty when the models do not fit.
    pub collectives: Vec<CheckedCollective>,
    /// Bytes that each rank sends in a run, as far as they are known; what branches and loops do counts once.
    pub sent: Vec<u64>,
    /// The ranks that would wait for each other if no message were kept for its receiver. Shared memory and MPI keep
    /// messages of [`TransportKind::send_capacity`], other transports need not do so.
    pub needs_kept_messages: Option<Disagreement>,
    /// What cannot be proved from files, or looks like a mistake, but may be meant.
    pub notes: Vec<String>,
}

/// A collective, or a message between two ranks, that all ranks concerned agree about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedCollective {
    /// Name of the group.
    pub group: String,
    /// World ranks of the group; sender and receiver of a message.
    pub ranks: Vec<usize>,
    /// Whether it is a message between two ranks.
    pub is_message: bool,
    /// What is done, such as `all_reduce(sum)`, or `message(tag=0)`.
    pub kind: String,
    /// Type of the elements; `None` when no data are moved.
    pub dtype: Option<DType>,
    /// Number of elements that a rank gives; an expression when it depends on extents that are not known.
    pub count: Option<String>,
    /// Their bytes, when the number is known.
    pub bytes: Option<u64>,
    /// Bytes that a rank sends to others, as in a ring; of a message, its sender.
    pub sent: Option<u64>,
    /// Whether data decide if, or how often, it happens.
    pub conditional: bool,
    /// MindIR scope of the node, at the first rank of the group; at the receiver of a message.
    pub node: String,
}

impl CheckReport {
    /// Whether the models fit each other.
    pub fn fits(&self) -> bool {
        self.disagreement.is_none()
    }
}

/// Proves from files alone that the models of all ranks, in order of rank, fit each other: they exchange the same in
/// the same order, whatever is sent is received, no ranks wait for each other in a circle, groups are known and have
/// their members, and numbers of ranks are those that the models were sliced for.
///
/// Where data decide about an exchange the ranks are taken to decide alike; the notes say so. Extents that are not
/// known are compared as expressions.
///
/// # Errors
/// `InvalidArgument` and the like for files that cannot be read. That models do not fit is no error, but in the report.
pub fn check<P: AsRef<Path>>(models: &[P], options: &CheckOptions) -> Result<CheckReport> {
    let size = models.len();
    if size == 0 {
        return Err(Error::new(ErrorKind::InvalidArgument, "there is no model to check"));
    }
    let files = options.group_info_files.len();
    if files > 1 && files != size {
        let message = format!("{files} group files do not fit {size} ranks: give one, or one for each");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let table = read_table(options)?;
    let (mut ranks, mut faults) = (Ranks::default(), Vec::new());
    for (rank, path) in models.iter().enumerate() {
        let path = path.as_ref();
        let (model, groups) = open_rank(path, rank, options)?;
        match ranks.add(rank, model, &groups, size) {
            Err(error) if is_fault(error.kind()) => faults.push((rank, error)),
            Err(error) => return Err(error.with("model", path.display())),
            Ok(()) => {}
        }
    }
    if let Some(found) = Disagreement::of_faults(faults.iter().map(|(rank, error)| (*rank, error))) {
        return Ok(CheckReport { disagreement: Some(found), ..CheckReport::of(size) });
    }
    let mut report = CheckReport::of(size);
    report.disagreement = table.as_ref().and_then(|table| table_fault(table, size));
    if report.disagreement.is_none() {
        report.compare(&ranks.schedules, options.transport);
    }
    report.notes.extend(ranks.notes());
    report
        .notes
        .extend(table.filter(|_| report.fits()).iter().flat_map(|table| spread(table, &report.collectives)));
    Ok(report)
}

impl CheckReport {
    fn of(ranks: usize) -> Self {
        CheckReport {
            ranks,
            disagreement: None,
            collectives: Vec::new(),
            sent: vec![0; ranks],
            needs_kept_messages: None,
            notes: Vec::new(),
        }
    }

    fn compare(&mut self, schedules: &[Schedule], transport: Option<TransportKind>) {
        let over = |kind: TransportKind| compare(schedules, Sends::Keep(kind.send_capacity()));
        let least = TransportKind::ALL.into_iter().min_by_key(|kind| kind.send_capacity());
        let transport = transport.or(least).unwrap_or_default();
        let events = compare(schedules, Sends::Wait).or_else(|found| {
            let events = over(transport)?;
            self.needs_kept_messages = Some(found);
            Ok(events)
        });
        match events {
            Ok(events) => self.list(&events),
            Err(found) => {
                self.disagreement = Some(found);
                let fits = |kind: &TransportKind| over(*kind).is_ok();
                self.notes.extend(TransportKind::ALL.into_iter().filter(fits).map(|kind| {
                    format!(
                        "they fit each other over the transport `{kind}`, which keeps {} bytes of messages for their \
                         receivers, but not over `{transport}`, which keeps {}",
                        kind.send_capacity(),
                        transport.send_capacity()
                    )
                }));
            }
        }
    }

    fn list(&mut self, events: &[Event<'_>]) {
        self.collectives = events.iter().map(checked).collect();
        for collective in &self.collectives {
            let senders = if collective.is_message { &collective.ranks[..1] } else { &collective.ranks };
            for &rank in senders {
                self.sent[rank] = self.sent[rank].saturating_add(collective.sent.unwrap_or(0));
            }
        }
        let mut conditional = self.collectives.iter().filter(|collective| collective.conditional);
        if let Some(first) = conditional.next() {
            let count = 1 + conditional.count();
            self.notes.push(format!(
                "{count} of {} exchanges stand in branches or loops, the first at {}: data decide about them, and must \
                 do so alike at all their ranks",
                self.collectives.len(),
                first.node
            ));
        }
        if self.collectives.iter().any(|collective| collective.dtype.is_some() && collective.bytes.is_none())
        {
            let note = "some extents are not known: give all ranks inputs of the same extents";
            self.notes.push(note.to_owned());
        }
    }
}

fn checked(event: &Event<'_>) -> CheckedCollective {
    let Event { exchange, conditional } = *event;
    let data = exchange.data.as_ref();
    CheckedCollective {
        group: exchange.group.to_string(),
        ranks: exchange
            .message
            .map_or_else(|| exchange.ranks.clone(), |message| vec![message.from, message.to]),
        is_message: exchange.message.is_some(),
        kind: match exchange.message {
            Some(message) => format!("message(tag={})", message.tag),
            None => exchange.kind.to_string(),
        },
        dtype: data.map(|(dtype, _)| *dtype),
        count: data.and_then(|(_, count)| Some(count.as_ref()?.to_string())),
        bytes: exchange.bytes(),
        sent: sent(exchange),
        conditional,
        node: exchange.origin.clone(),
    }
}

/// Bytes that one rank sends.
fn sent(exchange: &Exchange) -> Option<u64> {
    let (bytes, ranks) = (exchange.bytes()?, exchange.ranks.len().max(1) as u64);
    let share = (u128::from(bytes) * u128::from(ranks - 1) / u128::from(ranks)) as u64;
    Some(match exchange.kind {
        CollectiveKind::AllReduce(_) => share.saturating_mul(2),
        CollectiveKind::ReduceScatter(_) | CollectiveKind::AllToAll | CollectiveKind::Scatter { .. } => share,
        CollectiveKind::AllGather => bytes.saturating_mul(ranks - 1),
        _ if ranks == 1 => 0,
        _ => bytes,
    })
}

/// The model of a rank, and the groups that its file has.
fn open_rank(path: &Path, rank: usize, options: &CheckOptions) -> Result<(mslite_mindir::Model, GroupRanks)> {
    let mut build = BuildOptions::default();
    (build.key, build.mode) = (options.key.clone(), options.mode);
    let files = &options.group_info_files;
    let groups = files.get(rank).or(files.first().filter(|_| files.len() == 1));
    Ok((open(path, &build)?, groups_of(groups.map(PathBuf::as_path))?))
}

/// Bytes of each weight that are compared between ranks: models may be larger than memory.
const COMPARED: usize = 64 << 10;

/// What is known of the ranks read so far.
#[derive(Default)]
struct Ranks {
    schedules: Vec<Schedule>,
    /// Inputs and outputs: name and type.
    ports: Vec<[Vec<(String, TensorSpec)>; 2]>,
    previous: Option<mslite_mindir::Model>,
    /// The second ones of successive ranks whose weights begin alike.
    same_weights: Vec<usize>,
    /// The first weight that two successive ranks have with other extents.
    uneven: Option<String>,
}

impl Ranks {
    /// Takes the model of the next rank, which may have a fault by itself.
    fn add(
        &mut self,
        rank: usize,
        model: mslite_mindir::Model,
        groups: &GroupRanks,
        size: usize,
    ) -> Result<()> {
        let mut importing = ImportOptions::default();
        importing.rank = Some(rank);
        let graph = import(&model, &importing)?;
        let groups = group_ranks(&graph, groups, rank, size)?;
        check_places(&model, &groups, rank)?;
        let schedule = Schedule::new(&graph, &groups, rank)?;
        self.schedules.push(schedule);
        self.ports.push([ports(&graph, graph.inputs()), ports(&graph, graph.outputs())]);
        if let Some(previous) = self.previous.replace(model) {
            self.compare_weights(&previous, rank);
        }
        Ok(())
    }

    fn compare_weights(&mut self, previous: &mslite_mindir::Model, rank: usize) {
        let Some(model) = &self.previous else { return };
        let (a, b) = (&previous.graph.parameters, &model.graph.parameters);
        let start = |parameter: &Parameter| {
            let bytes = &parameter.data.data;
            bytes.slice(..bytes.len().min(COMPARED))
        };
        let same = |(a, b): (&Parameter, &Parameter)| a.name == b.name && start(a) == start(b);
        if !a.is_empty() && a.len() == b.len() && a.iter().zip(b).all(same) {
            self.same_weights.push(rank);
        }
        let extents: HashMap<&str, &[usize]> = a.iter().map(|a| (&*a.name, a.dims())).collect();
        let differing = b.iter().find_map(|b| {
            let a = *extents.get(&*b.name)?;
            (a != b.dims()).then(|| (b.name.clone(), a, b.dims()))
        });
        if let (None, Some((name, a, b))) = (&self.uneven, differing) {
            let before = rank - 1;
            self.uneven = Some(format!(
                "weight {name:?} has the extents {a:?} at rank {before}, but {b:?} at rank {rank}"
            ));
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let kinds = ["input", "output"];
        for (rank, ports) in self.ports.iter().enumerate().skip(1) {
            let differing =
                kinds.iter().zip(&self.ports[0]).zip(ports).find_map(|((kind, a), b)| differing(kind, a, b));
            if let Some(difference) = differing {
                notes.push(format!("ranks 0 and {rank} differ in {difference}"));
            }
        }
        if let Some(&rank) = self.same_weights.first().filter(|_| self.schedules.len() > 1) {
            notes.push(match self.same_weights.len() == self.schedules.len() - 1 {
                true => "all ranks seem to have the same weights: none is sliced".to_owned(),
                false => {
                    let before = rank - 1;
                    format!(
                        "ranks {before} and {rank} seem to have the same weights: is that one slice, twice?"
                    )
                }
            });
        }
        notes.extend(self.uneven.clone());
        notes
    }
}

/// Whether an error is one of how models were sliced, rather than of reading them.
fn is_fault(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidModel | ErrorKind::InvalidArgument | ErrorKind::PlanMismatch)
}

/// Checks that the model was sliced for this rank, where collectives say for which.
fn check_places(model: &mslite_mindir::Model, groups: &GroupRanks, rank: usize) -> Result<()> {
    for collective in model.collectives() {
        let stated = collective.primitive.attributes.value("rank_id").and_then(Value::as_int);
        let group = collective.group().and_then(|name| groups.get(&name.into()));
        let place = group.and_then(|ranks| ranks.iter().position(|&other| other == rank));
        if let (Some(stated), Some(place)) = (stated, place)
            && usize::try_from(stated) != Ok(place)
        {
            let operator = &collective.primitive.op_type;
            let message = format!(
                "rank {rank} is rank {place} of its {operator}, but its model was sliced for rank {stated}"
            );
            return Err(Error::new(ErrorKind::PlanMismatch, message).with("node", &collective.node.scope));
        }
    }
    Ok(())
}

fn ports(graph: &Graph, ports: &[mslite_graph_opt::ir::Port]) -> Vec<(String, TensorSpec)> {
    ports.iter().map(|port| (port.name.clone(), graph.spec(port.value).clone())).collect()
}

/// Names of outputs are those of nodes, which differ between ranks.
fn differing(kind: &str, a: &[(String, TensorSpec)], b: &[(String, TensorSpec)]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("the number of {kind}s: {} and {}", a.len(), b.len()));
    }
    let differs = |((a, x), (b, y)): &(&(String, TensorSpec), &(String, TensorSpec))| {
        x != y || (kind == "input" && a != b)
    };
    let pairs = a.iter().zip(b).enumerate();
    pairs
        .filter(|(_, pair)| differs(pair))
        .map(|(i, ((a, x), (b, y)))| format!("{kind} {i}: {a} {x} and {b} {y}"))
        .next()
}

fn read_table(options: &CheckOptions) -> Result<Option<RankTable>> {
    let Some(path) = &options.rank_table else { return Ok(None) };
    let invalid = |error: mslite_collective::rank_table::RankTableError| {
        Error::new(ErrorKind::InvalidArgument, error.to_string()).with("file", path.display())
    };
    RankTable::open(path).map(Some).map_err(invalid)
}

fn table_fault(table: &RankTable, size: usize) -> Option<Disagreement> {
    (table.size() != size).then(|| {
        let what = format!("the rank table has {} ranks, but there are {size} models", table.size());
        Disagreement { what, sides: Vec::new(), advice: "give the rank table of this job" }
    })
}

/// Groups whose ranks are on several servers.
fn spread(table: &RankTable, collectives: &[CheckedCollective]) -> Vec<String> {
    let mut notes = Vec::new();
    for collective in collectives.iter().filter(|collective| !collective.is_message) {
        let servers: BTreeSet<&str> = collective
            .ranks
            .iter()
            .filter_map(|&rank| Some(table.ranks.get(rank)?.server.as_str()))
            .collect();
        let note = format!(
            "group {:?} of ranks {:?} is spread over {} servers",
            collective.group,
            collective.ranks,
            servers.len()
        );
        if servers.len() > 1 && !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}
