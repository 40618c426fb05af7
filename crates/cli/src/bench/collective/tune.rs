//! `mslite bench collective --tune`: at which sizes ranks of this machine had better go another way.

use std::io::IsTerminal;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

use anstyle::Style;
use mslite::{DType, Error, ErrorKind, Result};
use mslite_collective::{Reduction, TRANSPORT_VARIABLE, TUNING_VARIABLE, TransportKind, Tuning, Tunings};
use rustix::fs::{Access, access};
use serde_json::{Value, json};

use super::implementation::on_processes;
use super::operation::{Case, Operation};
use super::rank::Placement;
use super::report::bytes_text;
use super::row::Row;
use super::{CollectiveArgs, add};
use crate::output::{nameless, print, print_styled, visible, write};
use crate::table::{Column, HEADING, Table};

/// How much less time another value must take to take the place of the present one.
const LEAST_GAIN: f64 = 0.03;
/// A threshold that no size reaches.
const NEVER: usize = usize::MAX;
/// Most bytes in the buffers of all ranks.
const MAX_BYTES: usize = 2 << 30;

/// A field of [`Tuning`], and what it matters for.
struct Field {
    name: &'static str,
    kind: Kind,
    candidates: &'static [usize],
    operations: &'static [Operation],
    sizes: &'static [usize],
    placement: Placement,
}

/// What a value of a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each value differs for all blocks.
    Amount,
    /// Blocks of so many bytes and more go one way, others the other.
    From,
    /// Blocks of up to so many bytes go one way, others the other.
    UpTo,
}

/// In the order in which they are found: later ones are measured with what was found for earlier ones.
const FIELDS: [Field; 4] = [
    Field {
        name: "chunk",
        kind: Kind::Amount,
        candidates: &[16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10],
        operations: &[Operation::AllReduce, Operation::AllGather, Operation::ReduceScatter],
        sizes: &[64 << 10, 512 << 10, 4 << 20],
        placement: Placement::Private,
    },
    Field {
        name: "one_shot",
        kind: Kind::UpTo,
        candidates: &[1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10],
        operations: &[Operation::AllReduce],
        sizes: &[2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10],
        placement: Placement::Private,
    },
    Field {
        name: "direct",
        kind: Kind::From,
        candidates: &[128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10],
        operations: &[Operation::AllReduce, Operation::AllGather],
        sizes: &[128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10],
        placement: Placement::Registered,
    },
    Field {
        name: "stream",
        kind: Kind::From,
        candidates: &[1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20, NEVER],
        operations: &[Operation::AllReduce],
        sizes: &[1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20],
        placement: Placement::Registered,
    },
];

/// Measures what is best with each of these numbers of ranks, and notes it in the file.
pub(super) fn tune(args: &CollectiveArgs, ranks: &[u16], path: &Path) -> Result<ExitCode> {
    if ranks.contains(&1) {
        return Err(invalid("one rank alone has nothing to tune: --ranks must be 2 or more".to_owned()));
    }
    let before = existing(path)?;
    let mut tunings = before.clone();
    for &ranks in ranks {
        let (tuning, choices) = tune_ranks(args, ranks.into(), before.for_ranks(ranks.into()))?;
        tunings.set(ranks.into(), tuning);
        write(path, format!("{:#}\n", tunings.as_json()).as_bytes())?;
        match args.json {
            true => print(&format!("{}\n", as_json(ranks, path, &choices)))?,
            false => print_styled(&as_text(ranks, path, &choices))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the file says already. It is refused here if it could not be written later.
fn existing(path: &Path) -> Result<Tunings> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        invalid(format!("cannot write {}: no files can be made in its folder", path.display()))
            .caused_by(std::io::Error::from(error))
    })?;
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Tunings::default()),
        Ok(there) if !there.is_file() => Err(invalid(format!("{} is no regular file", path.display()))),
        _ => Ok(Tunings::read(path)?),
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, what)
}

fn tune_ranks(
    args: &CollectiveArgs,
    ranks: usize,
    mut tuning: Tuning,
) -> Result<(Tuning, Vec<(&'static str, Choice)>)> {
    let mut choices = Vec::new();
    for field in &FIELDS {
        let choice = field.choose(args, ranks, tuning)?;
        tuning = field.with(tuning, choice.is);
        choices.push((field.name, choice));
    }
    Ok((tuning, choices))
}

impl Field {
    fn choose(&self, args: &CollectiveArgs, ranks: usize, tuning: Tuning) -> Result<Choice> {
        let present = tuning.values()[self.place()];
        let candidates = self.candidates(present);
        let args = self.args(args, ranks);
        let times = self.measure(&args, ranks, tuning, &self.probes(&candidates))?;
        let cases = self.cases(&args, ranks, &candidates);
        let of_candidate = |&candidate: &usize| {
            let of_case = |case: &Case| times.of(self.probe(&candidates, candidate, case), case);
            Ok((candidate, cases.iter().map(of_case).collect::<Result<Vec<_>>>()?))
        };
        Ok(choose(present, &candidates.iter().map(of_candidate).collect::<Result<Vec<_>>>()?))
    }

    fn place(&self) -> usize {
        Tuning::NAMES.iter().position(|name| *name == self.name).unwrap_or_default()
    }

    fn with(&self, tuning: Tuning, value: usize) -> Tuning {
        let mut values = tuning.values();
        values[self.place()] = value;
        Tuning::of(values)
    }

    /// What may be chosen, in ascending order.
    fn candidates(&self, present: usize) -> Vec<usize> {
        let mut candidates = [self.candidates, &[present]].concat();
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    /// The values that are measured: of thresholds the first and the last, as blocks in between go one way with the
    /// one, and the other way with the other.
    fn probes(&self, candidates: &[usize]) -> Vec<usize> {
        match self.kind {
            Kind::Amount => candidates.to_vec(),
            Kind::From | Kind::UpTo => vec![candidates[0], candidates[candidates.len() - 1]],
        }
    }

    /// The measured value with which the case does what it does with the candidate.
    fn probe(&self, candidates: &[usize], candidate: usize, case: &Case) -> usize {
        let (block, first, last) =
            (case.block * case.dtype.size(), candidates[0], candidates[candidates.len() - 1]);
        match self.kind {
            Kind::Amount => candidate,
            Kind::From if block >= candidate => first,
            Kind::UpTo if block > candidate => first,
            Kind::From | Kind::UpTo => last,
        }
    }

    /// The cases in which candidates differ.
    fn cases(&self, args: &CollectiveArgs, ranks: usize, candidates: &[usize]) -> Vec<Case> {
        let mut cases = args.cases(ranks);
        cases.retain(|case| {
            let probe = |&candidate: &usize| self.probe(candidates, candidate, case);
            candidates.iter().any(|candidate| probe(candidate) != probe(&candidates[0]))
        });
        cases
    }

    /// What ranks are told: they measure one batch, as how fast they are depends on where the system has put them and
    /// their memory, so that more is learnt from ranks that are started anew. To find out how often a batch repeats the
    /// operation takes about three times as long as a batch.
    fn args(&self, args: &CollectiveArgs, ranks: usize) -> CollectiveArgs {
        let fits = |size: &usize| 2 * size * ranks <= MAX_BYTES;
        CollectiveArgs {
            ops: self.operations.to_vec(),
            sizes: self.sizes.iter().copied().filter(fits).collect(),
            dtype: DType::F32,
            reduction: Reduction::Sum,
            buffers: vec![self.placement],
            rounds: args.rounds.saturating_mul(args.batches),
            batches: 1,
            time: args.time.div_ceil(4),
            ..args.clone()
        }
    }

    /// Measures values in turns, in rounds, so that what else the machine does meets all of them.
    fn measure(
        &self,
        args: &CollectiveArgs,
        ranks: usize,
        tuning: Tuning,
        probes: &[usize],
    ) -> Result<Times> {
        let mut rows: Vec<_> = probes.iter().map(|&probe| (probe, Vec::new())).collect();
        for round in 0..args.rounds {
            progress(&format!("{ranks} ranks: {}, round {} of {}", self.name, round + 1, args.rounds));
            for (probe, rows) in &mut rows {
                let measured = measure(args, ranks, self.with(tuning, *probe));
                add(rows, measured.inspect_err(|_| progress(""))?);
            }
            // Nobody always runs after the same one.
            rows.rotate_left(1);
        }
        progress("");
        Ok(Times { placement: self.placement, rows })
    }
}

/// Measures ranks that use this tuning.
fn measure(args: &CollectiveArgs, ranks: usize, tuning: Tuning) -> Result<Vec<Row>> {
    let mut tunings = Tunings::default();
    tunings.set(ranks, tuning);
    let file = nameless(tunings.as_json().to_string().as_bytes()).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot keep a tuning for the ranks").caused_by(error)
    })?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let transport = TransportKind::SharedMemory.name();
    let variables =
        vec![(TRANSPORT_VARIABLE.into(), transport.into()), (TUNING_VARIABLE.into(), path.into())];
    on_processes(args, ranks, variables)
}

/// Shows on a terminal what is under way; the next text replaces it.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\u{1b}[K{text}");
    }
}

/// What was measured for values of a field.
struct Times {
    placement: Placement,
    /// By value.
    rows: Vec<(usize, Vec<Row>)>,
}

impl Times {
    fn of(&self, probe: usize, case: &Case) -> Result<f64> {
        let is_it = |row: &&Row| {
            (row.operation, row.bytes) == (case.operation, case.bytes())
                && row.implementation == self.placement.name()
        };
        let row =
            self.rows.iter().filter(|(value, _)| *value == probe).flat_map(|(_, rows)| rows).find(is_it);
        row.map(Row::least).ok_or_else(|| {
            let what = format!("{} of {} bytes was not measured", case.operation, case.bytes());
            Error::new(ErrorKind::Internal, what)
        })
    }
}

/// What was found for a field.
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    was: usize,
    is: usize,
    /// Share of the time that is saved.
    gain: f64,
    /// Microseconds by candidate: geometric means over the cases.
    scores: Vec<(usize, f64)>,
}

/// The candidate with the least time, if it takes clearly less than the present value, which is one of them.
fn choose(present: usize, times: &[(usize, Vec<f64>)]) -> Choice {
    let scores: Vec<(usize, f64)> =
        times.iter().map(|(value, times)| (*value, geometric_mean(times))).collect();
    let score_of = |value| scores.iter().find(|(there, _)| *there == value).map_or(f64::MAX, |(_, s)| *s);
    let was = score_of(present);
    let best = scores.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(present, |(value, _)| *value);
    let gain = 1.0 - score_of(best) / was;
    match gain > LEAST_GAIN {
        true => Choice { was: present, is: best, gain, scores },
        false => Choice { was: present, is: present, gain: 0.0, scores },
    }
}

/// 1 of no numbers.
fn geometric_mean(values: &[f64]) -> f64 {
    let logarithms = values.iter().map(|value| value.max(1e-9).ln());
    (logarithms.sum::<f64>() / values.len().max(1) as f64).exp()
}

fn as_text(ranks: u16, path: &Path, choices: &[(&str, Choice)]) -> String {
    let row = |(name, choice): &(&str, Choice)| {
        let gain =
            if choice.is == choice.was { "-".to_owned() } else { format!("{:.1}%", choice.gain * 100.0) };
        vec![(*name).to_owned(), value_text(choice.was), value_text(choice.is), gain]
    };
    let table = Table {
        columns: &[Column::Left, Column::Right, Column::Right, Column::Right],
        heading: &["field", "was", "is", "gain"],
        rows: choices.iter().map(row).collect(),
    };
    let title = format!("{HEADING}{ranks} ranks{HEADING:#}, in {}\n", visible(&path.display().to_string()));
    title + &table.lines(None, |_| Style::new())
}

fn value_text(value: usize) -> String {
    if value == NEVER { "never".to_owned() } else { bytes_text(value as f64) }
}

fn as_json(ranks: u16, path: &Path, choices: &[(&str, Choice)]) -> Value {
    let field = |(name, Choice { was, is, gain, scores }): &(&str, Choice)| json!({ "field": name, "was": was, "is": is, "gain": gain, "us": scores });
    let fields: Vec<Value> = choices.iter().map(field).collect();
    json!({ "bench": "tuning", "ranks": ranks, "file": path.to_string_lossy(), "fields": fields })
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn field(name: &str) -> &'static Field {
        FIELDS.iter().find(|field| field.name == name).unwrap()
    }

    #[test]
    fn the_present_value_stays_unless_another_is_clearly_better() {
        let times = |first: f64, second: f64| [(1, vec![100.0, 1.0]), (2, vec![first, second])];
        let chosen = |first, second| choose(1, &times(first, second)).is;
        assert_eq!(
            [chosen(98.0, 1.0), chosen(100.0, 0.95), chosen(93.0, 1.0), chosen(93.0, 1.1)],
            [1, 1, 2, 1]
        );
        // Every case counts alike, however long it takes.
        assert_eq!([chosen(80.0, 1.3), chosen(120.0, 0.7)], [1, 2]);
        let choice = choose(1, &times(64.0, 1.0));
        assert!((choice.gain - 0.2).abs() < 1e-9 && (choice.scores[1].1 - 8.0).abs() < 1e-9, "{choice:?}");
        assert_eq!(choose(2, &times(100.0, 1.0)).is, 2);
        assert_eq!(choose(3, &[(3, Vec::new()), (4, Vec::new())]).is, 3);
    }

    #[test]
    fn thresholds_are_composed_of_both_ways() {
        for (name, block, ways) in [
            ("direct", 1024, [128, 128, NEVER]),
            ("direct", 512, [128, NEVER, NEVER]),
            ("one_shot", 1024, [128, NEVER, NEVER]),
            ("one_shot", 1028, [128, 128, NEVER]),
            ("chunk", 1024, [128, 1024, NEVER]),
        ] {
            let candidates = [128, 1024, NEVER];
            let case = Case::all(&[Operation::AllReduce], &[block], 2, DType::F32, Reduction::Sum)[0];
            let probes = candidates.map(|candidate| field(name).probe(&candidates, candidate, &case));
            assert_eq!(probes, ways, "{name} {block}");
        }
    }

    #[test]
    fn fields_are_those_of_tunings_and_have_candidates_that_they_keep() {
        let mut names = FIELDS.map(|field| field.name);
        let mut all = Tuning::NAMES;
        names.sort_unstable();
        all.sort_unstable();
        assert_eq!(names, all);
        let tuning = Tuning::untuned(2);
        for field in &FIELDS {
            for &candidate in field.candidates {
                let values = field.with(tuning, candidate).values();
                assert_eq!(values[field.place()], candidate, "{}", field.name);
                let changed = values.iter().zip(tuning.values()).filter(|(a, b)| **a != *b);
                assert!(changed.count() <= 1, "{}", field.name);
            }
        }
    }

    #[test]
    fn ranks_measure_only_the_buffers_that_a_field_matters_for() {
        let matches =
            CollectiveArgs::augment_args(Command::new("collective")).get_matches_from(["collective"]);
        let args = CollectiveArgs::from_arg_matches(&matches).unwrap();
        let placements = |name| field(name).args(&args, 2).effort(1).placements;
        let [private, registered] = Placement::ALL.map(|placement| vec![placement]);
        assert_eq!(["chunk", "one_shot"].map(placements), [private.clone(), private]);
        assert_eq!(["direct", "stream"].map(placements), [registered.clone(), registered]);
    }

    #[test]
    fn tables_say_what_has_changed() {
        let choice = |is, gain| Choice { was: 65536, is, gain, scores: Vec::new() };
        let choices = [("chunk", choice(65536, 0.0)), ("stream", choice(NEVER, 0.125))];
        let text = as_text(2, Path::new("t.json"), &choices);
        let text = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["2", "ranks,", "in", "t.json"]);
        assert_eq!(lines[2..], [["chunk", "64K", "64K", "-"], ["stream", "64K", "never", "12.5%"]]);
    }
}
