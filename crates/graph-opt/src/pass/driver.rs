use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Evaluator, Level, Pass, passes, standard_passes};
use crate::ir::{Cost, verify};
use crate::{Error, Graph, Result};

/// What [`optimise`] does.
#[derive(Debug, Clone)]
pub struct OptimiseOptions {
    /// The passes, in their order.
    pub passes: Vec<Arc<dyn Pass>>,
    /// Names of passes that do not run.
    pub without: BTreeSet<String>,
    /// Most rewrites overall. To find one that does harm, halve it until the harm has gone.
    pub fuel: Option<u64>,
    /// Most rounds, in each of which every pass runs once.
    pub rounds: usize,
    /// Runs operations on constants; without one only what needs no arithmetic is folded.
    pub evaluator: Option<Arc<dyn Evaluator>>,
    /// How much memory folding may take.
    pub fold_limits: FoldLimits,
    /// Whether the report has the graph after each pass that changed it.
    pub dump: bool,
    /// Whether the report says what the graph costs before and after each pass that changed it.
    pub measure: bool,
}

impl Default for OptimiseOptions {
    fn default() -> Self {
        OptimiseOptions {
            passes: standard_passes(),
            without: BTreeSet::new(),
            fuel: None,
            rounds: 32,
            evaluator: None,
            fold_limits: FoldLimits::default(),
            dump: false,
            measure: false,
        }
    }
}

impl OptimiseOptions {
    /// The defaults with the passes of a level.
    pub fn at(level: Level) -> Self {
        OptimiseOptions { passes: passes(level), ..OptimiseOptions::default() }
    }
}

/// How large constants may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldLimits {
    /// Most bytes of a result that is larger than the operands it is made from.
    pub result: usize,
    /// Most bytes by which all folding together may make constants grow.
    pub growth: usize,
    /// Most bytes of weights that are joined into one, which is a copy of them: a product of larger weights is so
    /// long that joining it to others saves nothing.
    pub joined: usize,
}

impl Default for FoldLimits {
    /// 1 MiB, 64 MiB in all, and 16 MiB.
    fn default() -> Self {
        FoldLimits { result: 1 << 20, growth: 64 << 20, joined: 16 << 20 }
    }
}

/// What has been done.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Every rewrite, in order.
    pub rewrites: Vec<Rewrite>,
    /// Every run of a pass, in order.
    pub steps: Vec<Step>,
    /// The graph after each pass that changed it, if asked for.
    pub dumps: Vec<Dump>,
    /// Number of rounds.
    pub rounds: usize,
    /// Whether nothing was left to rewrite; else fuel or rounds ran out.
    pub converged: bool,
}

/// One application of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Name of the pass.
    pub pass: &'static str,
    /// Name of the rule.
    pub rule: &'static str,
    /// Origin of the node, or name of the constant, that was rewritten.
    pub origin: Arc<str>,
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at {}", self.pass, self.rule, self.origin)
    }
}

/// One run of a pass, on the graph or on one inside an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Name of the pass.
    pub pass: &'static str,
    /// The round, counted from 1.
    pub round: usize,
    /// Number of rewrites.
    pub hits: usize,
    /// How long it took, with applying and verifying its patch.
    pub elapsed: Duration,
    /// The graph before and after, if asked for and if the pass changed it.
    pub change: Option<[Measure; 2]>,
}

/// What a graph is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Number of nodes, those of graphs inside operations included.
    pub nodes: usize,
    /// What its nodes cost, as far as it can be told.
    pub cost: Cost,
    /// Number of nodes whose cost cannot be told.
    pub without_cost: usize,
    /// [`Graph::peak_memory`].
    pub peak: Option<u64>,
}

impl Measure {
    /// What a graph is like.
    pub fn of(graph: &Graph) -> Self {
        let (cost, without_cost) = graph.known_cost();
        Measure { nodes: graph.nodes_within().count(), cost, without_cost, peak: graph.peak_memory() }
    }
}

/// A graph after a pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    /// Name of the pass.
    pub pass: &'static str,
    /// The round, counted from 1.
    pub round: usize,
    /// The graph, which may be one inside an operation.
    pub graph: Graph,
}

/// What a pass may use while it runs.
#[derive(Debug)]
pub struct PassContext<'a> {
    options: &'a OptimiseOptions,
    pass: &'static str,
    report: Report,
    starved: bool,
    growth: usize,
    /// Number of rewrites before the round on the present graph.
    settled: usize,
}

impl PassContext<'_> {
    /// Asks for a rewrite, and logs it. `false` when the fuel is used up: the pass must not rewrite then.
    pub fn spend(&mut self, rule: &'static str, origin: &Arc<str>) -> bool {
        let spent = self.report.rewrites.len() as u64;
        if self.options.fuel.is_some_and(|fuel| spent >= fuel) {
            self.starved = true;
            return false;
        }
        self.report.rewrites.push(Rewrite { pass: self.pass, rule, origin: origin.clone() });
        true
    }

    /// Whether no pass has changed the graph in this round. Passes that others should not come after wait for it.
    pub fn is_settled(&self) -> bool {
        self.report.rewrites.len() == self.settled
    }

    /// Most bytes of weights that are joined into one.
    pub(super) fn join_limit(&self) -> usize {
        self.options.fold_limits.joined
    }

    /// Runs operations on constants.
    pub fn evaluator(&self) -> Option<&dyn Evaluator> {
        self.options.evaluator.as_deref()
    }

    /// Whether a constant of `result` bytes may be made from `operands` bytes.
    pub fn may_fold(&self, operands: usize, result: usize) -> bool {
        let FoldLimits { result: limit, growth, .. } = self.options.fold_limits;
        result <= operands || (result <= limit && self.growth + (result - operands) <= growth)
    }

    /// Counts what a constant took.
    pub(super) fn count_growth(&mut self, operands: usize, result: usize) {
        self.growth += result.saturating_sub(operands);
    }
}

/// Runs passes until none of them changes the graph, or fuel or rounds run out.
///
/// # Errors
/// [`Error::Options`] when `without` names no pass; [`Error::Verify`] or [`Error::Infer`] when a pass is
/// defective, with the name of the pass.
pub fn optimise(graph: &Graph, options: &OptimiseOptions) -> Result<(Graph, Report)> {
    check_names(options)?;
    let mut cx =
        PassContext { options, pass: "", report: Report::default(), starved: false, growth: 0, settled: 0 };
    let mut current = graph.clone();
    while cx.report.rounds < options.rounds && !cx.starved && !cx.report.converged {
        cx.report.rounds += 1;
        cx.report.converged = !round(&mut current, &mut cx)?;
    }
    cx.report.converged &= !cx.starved;
    Ok((current, cx.report))
}

/// Runs each pass once, on the graphs inside operations first; whether anything changed.
fn round(graph: &mut Graph, cx: &mut PassContext) -> Result<bool> {
    let options = cx.options;
    let mut changed = false;
    graph.try_change_bodies(|body| {
        let mut inner = Graph::clone(body);
        let has_changed = round(&mut inner, cx)?;
        changed |= has_changed;
        Ok(if has_changed { Arc::new(inner) } else { body.clone() })
    })?;
    cx.settled = cx.report.rewrites.len();
    for pass in options.passes.iter().filter(|pass| !options.without.contains(pass.name())) {
        changed |= step(graph, &**pass, cx)?;
    }
    Ok(changed)
}

/// Runs one pass; whether it changed the graph.
fn step(graph: &mut Graph, pass: &dyn Pass, cx: &mut PassContext) -> Result<bool> {
    let options = cx.options;
    cx.pass = pass.name();
    let blame = |error: Error| Error::Verify(format!("after pass {}: {error}", pass.name()));
    let (start, hits) = (Instant::now(), cx.report.rewrites.len());
    let changed = match pass.run(graph, cx).map_err(blame)? {
        Some(patch) => Some(patch.apply(graph).map_err(blame)?),
        None => None,
    };
    changed.as_ref().map_or(Ok(()), verify).map_err(blame)?;
    let (pass, round) = (pass.name(), cx.report.rounds);
    let elapsed = start.elapsed();
    let hits = cx.report.rewrites.len() - hits;
    let change = changed.as_ref().filter(|_| options.measure);
    let change = change.map(|after| [Measure::of(graph), Measure::of(after)]);
    cx.report.steps.push(Step { pass, round, hits, elapsed, change });
    let Some(changed) = changed else { return Ok(false) };
    *graph = changed;
    if options.dump {
        cx.report.dumps.push(Dump { pass, round, graph: graph.clone() });
    }
    Ok(true)
}

fn check_names(options: &OptimiseOptions) -> Result<()> {
    let names: BTreeSet<&str> = options.passes.iter().map(|pass| pass.name()).collect();
    match options.without.iter().find(|name| !names.contains(name.as_str())) {
        Some(name) => Err(Error::Options(format!("there is no pass {name:?}, only {names:?}"))),
        None => Ok(()),
    }
}
