//! What the passes have changed, as a table and as JSON.

use std::time::Duration;

use anstyle::Style;
use mslite_graph_opt::pass::Measure;
use serde_json::{Value, json};

use super::Outcome;
use crate::output::size;
use crate::table::{Column, HEADING, Table};

const COLUMNS: [Column; 7] =
    [Column::Left, Column::Right, Column::Right, Column::Right, Column::Right, Column::Right, Column::Right];
const NAMES: [&str; 7] = ["pass", "hits", "nodes", "FLOPs", "moved", "peak", "time"];

pub(super) fn text(outcome: &Outcome) -> String {
    let mut rows = vec![absolute("as imported", &outcome.before)];
    let (mut hits, mut time) = (0, Duration::ZERO);
    for name in &outcome.passes {
        let (own_hits, own_time, changes) = outcome.of_pass(name);
        rows.push(changed(name, own_hits, own_time, &changes));
        hits += own_hits;
        time += own_time;
    }
    rows.push(changed("total", hits, time, &[[outcome.before, outcome.after]]));
    rows.push(absolute("as written", &outcome.after));
    let last = rows.len() - 1;
    let bold = |row: usize| if row == 0 || row + 1 >= last { HEADING } else { Style::new() };
    let table = Table { columns: &COLUMNS, heading: &NAMES, rows };
    let mut text = format!("{}\n", outcome.model.display());
    text += &table.lines(None, bold);
    for note in notes(outcome) {
        text += &format!("{note}\n");
    }
    for path in std::iter::once(&outcome.saved.graph).chain(&outcome.saved.data) {
        let bytes = path.metadata().map(|file| file.len()).unwrap_or_default();
        text += &format!("{} {}\n", path.display(), size(bytes));
    }
    text
}

fn notes(outcome: &Outcome) -> Vec<String> {
    let mut notes = Vec::new();
    if outcome.after.without_cost > 0 {
        notes.push(format!(
            "{} nodes are not counted in FLOPs and moved: their extents are not numbers, or nobody knows what they do",
            outcome.after.without_cost
        ));
    }
    if !outcome.report.converged && !outcome.passes.is_empty() {
        notes.push("more could be rewritten: the fuel, or the rounds, have run out".to_owned());
    }
    notes
}

fn absolute(name: &str, measure: &Measure) -> Vec<String> {
    let Measure { nodes, cost, peak, .. } = measure;
    let peak = peak.map_or("-".to_owned(), size);
    let cells = ["", &nodes.to_string(), &count(cost.flops), &size(cost.moved()), &peak, ""];
    std::iter::once(name).chain(cells).map(str::to_owned).collect()
}

/// A row of differences.
fn changed(name: &str, hits: usize, time: Duration, changes: &[[Measure; 2]]) -> Vec<String> {
    let cell = |of: &dyn Fn(&Measure) -> Option<u64>, show: &dyn Fn(u64) -> String| {
        let each =
            changes.iter().map(|[before, after]| Some(i128::from(of(after)?) - i128::from(of(before)?)));
        match each.sum::<Option<i128>>() {
            None => "-".to_owned(),
            Some(0) => String::new(),
            Some(n) => {
                let sign = if n < 0 { '-' } else { '+' };
                format!("{sign}{}", show(u64::try_from(n.unsigned_abs()).unwrap_or(u64::MAX)))
            }
        }
    };
    vec![
        name.to_owned(),
        hits.to_string(),
        cell(&|m| Some(m.nodes as u64), &|n| n.to_string()),
        cell(&|m| Some(m.cost.flops), &count),
        cell(&|m| Some(m.cost.moved()), &size),
        cell(&|m| m.peak, &size),
        format!("{:.3} ms", time.as_secs_f64() * 1e3),
    ]
}

/// `950`, `1.20 k`, `34.5 M`.
fn count(n: u64) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if n < 1000 {
        return n.to_string();
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

pub(super) fn json(outcome: &Outcome) -> Value {
    let passes = outcome.passes.iter().map(|name| {
        let (hits, time, _) = outcome.of_pass(name);
        json!({ "pass": name, "hits": hits, "ms": milliseconds(time) })
    });
    let steps = outcome.report.steps.iter().filter_map(|step| {
        let [before, after] = step.change.as_ref()?;
        Some(json!({
            "pass": step.pass, "round": step.round, "hits": step.hits, "ms": milliseconds(step.elapsed),
            "before": measure(before), "after": measure(after),
        }))
    });
    let files = std::iter::once(&outcome.saved.graph).chain(&outcome.saved.data);
    json!({
        "model": outcome.model.to_string_lossy(),
        "files": files.map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "before": measure(&outcome.before),
        "after": measure(&outcome.after),
        "passes": passes.collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
        "rounds": outcome.report.rounds,
        "converged": outcome.report.converged,
    })
}

fn measure(measure: &Measure) -> Value {
    let Measure { nodes, cost, without_cost, peak } = measure;
    json!({
        "nodes": nodes, "flops": cost.flops, "moved": cost.moved(), "sent": cost.sent,
        "without_cost": without_cost, "peak": peak,
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_unit_that_reads_well() {
        let texts = [(0, "0"), (999, "999"), (1200, "1.20 k"), (999_499, "999 k"), (34_500_000, "34.5 M")];
        for (n, text) in texts {
            assert_eq!(count(n), text);
        }
        assert_eq!(count(u64::MAX), "18.4 E");
    }
}
