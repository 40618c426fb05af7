//! Differences for the terminal.

use std::fmt::Write as _;

use super::{Change, Difference, Only};
use crate::output::visible;
use crate::table::{FAINT, HEADING, ONLY_A, ONLY_B};

/// Lines with `-` are of the first file, those with `+` of the second.
pub(super) fn text(difference: &Difference) -> String {
    let mut text = String::new();
    let out = &mut text;
    section(out, "Header", difference.header.iter().map(changed));
    section(out, "Inputs", difference.inputs.iter().map(changed));
    section(out, "Outputs", difference.outputs.iter().map(changed));
    let counts = difference.operators.iter();
    section(out, "Operators", counts.map(|c| format!("  {}: {} -> {}\n", visible(&c.operator), c.a, c.b)));
    only(out, "Functions", &difference.functions);
    only(out, "Scopes", &difference.scopes);
    only(out, "Nodes", &difference.nodes);
    let nodes = difference.changed_nodes.iter();
    let node = |changes: &[Change]| {
        changes.iter().map(|c| format!("  {}", changed(c).replace("\n  ", "\n    "))).collect::<String>()
    };
    section(out, "Changed nodes", nodes.map(|n| format!("  {}\n{}", visible(&n.node), node(&n.changes))));
    only(out, "Parameters", &difference.parameters);
    section(out, "Changed parameters", difference.changed_parameters.iter().map(changed));
    section(
        out,
        "Values",
        difference.values.iter().map(|v| {
            let max = v.max_abs.map_or("not finite".to_owned(), |max| format!("at most {max:.3e}"));
            format!("  {}: {} of {} elements, {max}\n", visible(&v.name), v.differing, v.elements)
        }),
    );
    text
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        let count = lines.len();
        let _ = writeln!(
            out,
            "{HEADING}{title}{HEADING:#} {FAINT}({count}){FAINT:#}\n{}",
            lines.concat().trim_end_matches('\n')
        );
    }
}

fn only(out: &mut String, title: &str, only: &Only) {
    let a = only.only_a.iter().map(|name| format!("  {ONLY_A}- {}{ONLY_A:#}\n", visible(name)));
    let b = only.only_b.iter().map(|name| format!("  {ONLY_B}+ {}{ONLY_B:#}\n", visible(name)));
    section(out, &format!("{title} of one only"), a.chain(b));
}

fn changed(change: &Change) -> String {
    let describe = |side: &Option<String>| side.as_deref().map_or("nothing".to_owned(), visible);
    let (what, a, b) = (visible(&change.what), describe(&change.a), describe(&change.b));
    match what.len() + a.len() + b.len() <= 70 {
        true => format!("  {what}: {ONLY_A}{a}{ONLY_A:#} -> {ONLY_B}{b}{ONLY_B:#}\n"),
        false => format!("  {what}:\n  {ONLY_A}- {a}{ONLY_A:#}\n  {ONLY_B}+ {b}{ONLY_B:#}\n"),
    }
}
