//! `mslite check`: whether the slices of all ranks fit each other.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::Style;
use clap::Args;
use mslite::{
    CheckOptions, CheckReport, CheckedCollective, Disagreement, Error, ErrorKind, Key, Mode, Result,
    TransportKind,
};
use serde_json::{Value, json};

use crate::output::{self, size, visible};
use crate::run::{MAX_RANKS, at_rank, parse_key};
use crate::table::{COLLECTIVE, Column, Table};

/// Proves from files alone that the slices of N ranks fit each other: the ranks exchange the same in the same order,
/// whatever is sent is received, no ranks wait for each other in a circle, and groups and numbers of ranks are those
/// that the models were sliced for. Prints what is exchanged, or the first reason why they do not fit, with the nodes.
///
/// The exit status is 0 when the slices fit, 1 when they do not, 2 in case of trouble.
///
/// Examples:
///   mslite check slice{rank}.mindir --ranks 4
///   mslite check slice{rank}.mindir --ranks 16 --group-file groups.pb --rank-table hccl_2s_16p.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CheckArgs {
    /// Model file; `{rank}` stands for the rank
    #[arg(value_name = "MODEL")]
    model: String,
    /// Number of ranks
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_RANKS))]
    ranks: u16,
    /// File with the ranks of named communication groups; `{rank}` stands for the rank
    #[arg(long, value_name = "F")]
    group_file: Option<String>,
    /// Rank table of the job, of any version
    #[arg(long, value_name = "F.json")]
    rank_table: Option<PathBuf>,
    /// What the ranks will exchange data through, `shared` memory or `mpi`; by default the models must fit over both
    #[arg(long, value_name = "T")]
    transport: Option<TransportKind>,
    /// Key of encrypted models: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Option<Key>,
    /// Encryption mode of the models: AES-GCM, AES-CBC or SM4-CBC; by default the one that each file names
    #[arg(long, value_name = "M", requires = "key")]
    dec_mode: Option<Mode>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let mut options = CheckOptions::default();
    options.transport = args.transport;
    options.rank_table = args.rank_table.clone();
    options.key = args.key.clone();
    options.mode = args.dec_mode;
    let report = check_slices(&args.model, usize::from(args.ranks), args.group_file.as_deref(), options)?;
    print(&report, args.json)
}

/// Checks the slices that a path with `{rank}` names.
pub(crate) fn check_slices(
    model: &str,
    ranks: usize,
    group_file: Option<&str>,
    mut options: CheckOptions,
) -> Result<CheckReport> {
    if ranks > 1 && !model.contains("{rank}") {
        let message = "with several ranks, MODEL needs `{rank}`, which stands for the rank";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let each = |path: &str| (0..ranks).map(|rank| at_rank(path, rank)).collect();
    options.group_info_files = group_file.map(each).unwrap_or_default();
    let models: Vec<PathBuf> = each(model);
    let mut report = mslite::check(&models, &options)?;
    if model.contains("{rank}") && at_rank(model, ranks).exists() {
        report
            .notes
            .push(format!("there is a slice of rank {ranks}, too: are there more than {ranks} ranks?"));
    }
    Ok(report)
}

/// Prints what was found; the status says whether the slices fit.
pub(crate) fn print(report: &CheckReport, as_json: bool) -> Result<ExitCode> {
    match (as_json, &report.disagreement) {
        (true, _) => output::print(&format!("{}\n", json(report)))?,
        (false, None) => output::print_styled(&text(report))?,
        (false, Some(disagreement)) => {
            eprintln!("error: {}: {}", ErrorKind::PlanMismatch, visible(&disagreement.to_string()));
            eprint!("{}", notes(report));
        }
    }
    Ok(if report.fits() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const COLUMNS: [(Column, &str); 9] = [
    (Column::Right, "#"),
    (Column::Left, "operation"),
    (Column::Left, "group"),
    (Column::Left, "ranks"),
    (Column::Left, "type"),
    (Column::Right, "count"),
    (Column::Right, "size"),
    (Column::Right, "each sends"),
    (Column::CutStart, "node"),
];

/// Columns that are left out where all exchanges are of all ranks in one group.
const OF_GROUP: std::ops::Range<usize> = 2..4;

fn text(report: &CheckReport) -> String {
    let (ranks, count) = (report.ranks, report.collectives.len());
    let Some(first) = report.collectives.first() else {
        let who = if ranks == 1 {
            "The model exchanges".to_owned()
        } else {
            format!("The models of {ranks} ranks exchange")
        };
        return format!("{who} nothing.\n") + &notes(report);
    };
    let in_one =
        report.collectives.iter().all(|c| c.group == first.group && c.ranks.len() == ranks && !c.is_message);
    let group = if in_one { format!(" in group {}", visible(&first.group)) } else { String::new() };
    let plural = if count == 1 { "" } else { "s" };
    let mut text =
        format!("The models of {ranks} ranks fit each other, with {count} exchange{plural}{group}.\n");
    let is_shown = |column: &usize| !(in_one && OF_GROUP.contains(column));
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(is_shown).collect();
    let cells = |(i, collective): (usize, &CheckedCollective)| {
        let row = row(i + 1, collective);
        shown.iter().map(|&column| row[column].clone()).collect()
    };
    let columns: Vec<Column> = shown.iter().map(|&column| COLUMNS[column].0).collect();
    let heading: Vec<&str> = shown.iter().map(|&column| COLUMNS[column].1).collect();
    let rows = report.collectives.iter().enumerate().map(cells).collect();
    let table = Table { columns: &columns, heading: &heading, rows };
    text += &table.lines(Some(output::width()), |row| match report.collectives[row].conditional {
        true => Style::new(),
        false => COLLECTIVE,
    });
    let sent: Vec<String> = report.sent.iter().map(|&bytes| size(bytes)).collect();
    let _ = match sent.iter().all(|other| *other == sent[0]) {
        true => writeln!(text, "Each rank sends {} in a run.", sent[0]),
        false => writeln!(text, "Ranks send in a run: {}.", sent.join(", ")),
    };
    text + &notes(report)
}

fn row(number: usize, collective: &CheckedCollective) -> Vec<String> {
    let CheckedCollective { group, ranks, kind, dtype, count, bytes, sent, conditional, node, .. } =
        collective;
    let bytes_or = |bytes: &Option<u64>| bytes.map_or("?".to_owned(), size);
    vec![
        number.to_string(),
        if *conditional { format!("{kind} if data say so") } else { kind.clone() },
        visible(group),
        places(ranks),
        dtype.map(|dtype| dtype.to_string()).unwrap_or_default(),
        count.clone().unwrap_or_default(),
        bytes_or(bytes),
        bytes_or(sent),
        visible(node),
    ]
}

/// `0-3`, or `0 2 4`.
fn places(ranks: &[usize]) -> String {
    let in_a_row = ranks.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    match ranks {
        [first, .., last] if in_a_row && ranks.len() > 2 => format!("{first}-{last}"),
        _ => ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn notes(report: &CheckReport) -> String {
    let kept = report.needs_kept_messages.as_ref().map(|found| {
        format!("this works only where messages are kept for their receivers, as shared memory and MPI do with short ones: {found}")
    });
    kept.iter().chain(&report.notes).map(|note| format!("note: {}\n", visible(note))).collect()
}

fn json(report: &CheckReport) -> Value {
    let collectives = report.collectives.iter().map(|collective| {
        let CheckedCollective { group, ranks, kind, dtype, count, bytes, sent, conditional, node, .. } = collective;
        json!({
            "group": group, "ranks": ranks, "kind": kind, "dtype": dtype.map(|dtype| dtype.name()), "count": count,
            "bytes": bytes, "sent": sent, "conditional": conditional, "node": node,
        })
    });
    json!({
        "fits": report.fits(),
        "ranks": report.ranks,
        "collectives": collectives.collect::<Vec<_>>(),
        "sent": report.sent,
        "disagreement": report.disagreement.as_ref().map(disagreement),
        "needs_kept_messages": report.needs_kept_messages.as_ref().map(disagreement),
        "notes": report.notes,
    })
}

fn disagreement(found: &Disagreement) -> Value {
    let side =
        |side: &mslite::Side| json!({ "rank": side.rank, "operation": side.operation, "node": side.node });
    json!({ "what": found.what, "sides": found.sides.iter().map(side).collect::<Vec<_>>(), "advice": found.advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_read_well() {
        assert_eq!(places(&[0, 1, 2, 3]), "0-3");
        assert_eq!(places(&[2, 3]), "2 3");
        assert_eq!(places(&[0, 2, 4]), "0 2 4");
    }
}
