use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::{Evaluator, Level, Pass, passes, standard_passes};
use crate::ir::verify;
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
    /// Whether the report has the graph's [summary](Graph::summary) after each pass that changed it.
    pub dump: bool,
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
}

impl Default for FoldLimits {
    /// 1 MiB, and 64 MiB in all.
    fn default() -> Self {
        FoldLimits { result: 1 << 20, growth: 64 << 20 }
    }
}

/// What has been done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Every rewrite, in order.
    pub rewrites: Vec<Rewrite>,
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

/// A graph after a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Name of the pass.
    pub pass: &'static str,
    /// The round, counted from 1.
    pub round: usize,
    /// The graph's [summary](Graph::summary).
    pub text: String,
}

/// What a pass may use while it runs.
#[derive(Debug)]
pub struct PassContext<'a> {
    options: &'a OptimiseOptions,
    pass: &'static str,
    report: Report,
    starved: bool,
    growth: usize,
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

    /// Runs operations on constants.
    pub fn evaluator(&self) -> Option<&dyn Evaluator> {
        self.options.evaluator.as_deref()
    }

    /// Whether a constant of `result` bytes may be made from `operands` bytes.
    pub fn may_fold(&self, operands: usize, result: usize) -> bool {
        let FoldLimits { result: limit, growth } = self.options.fold_limits;
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
    let mut cx = PassContext { options, pass: "", report: Report::default(), starved: false, growth: 0 };
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
    for pass in options.passes.iter().filter(|pass| !options.without.contains(pass.name())) {
        cx.pass = pass.name();
        let blame = |error: Error| Error::Verify(format!("after pass {}: {error}", pass.name()));
        let Some(patch) = pass.run(graph, cx).map_err(blame)? else { continue };
        *graph = patch.apply(graph).map_err(blame)?;
        verify(graph).map_err(blame)?;
        changed = true;
        if options.dump {
            let text = graph.summary().to_string();
            cx.report.dumps.push(Dump { pass: pass.name(), round: cx.report.rounds, text });
        }
    }
    Ok(changed)
}

fn check_names(options: &OptimiseOptions) -> Result<()> {
    let names: BTreeSet<&str> = options.passes.iter().map(|pass| pass.name()).collect();
    match options.without.iter().find(|name| !names.contains(name.as_str())) {
        Some(name) => Err(Error::Options(format!("there is no pass {name:?}, only {names:?}"))),
        None => Ok(()),
    }
}
