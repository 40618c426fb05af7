//! What is printed.

use anstyle::Style;
use serde_json::json;

use super::measure::{Measure, Row};
use super::setup::Shapes;
use crate::output::width;
use crate::table::{Column, HEADING, Table};

const HEADINGS: [&str; 13] = [
    "model",
    "ranks",
    "threads",
    "calls/s",
    "ratio",
    "min ms",
    "median",
    "90%",
    "max",
    "GFLOP/s",
    "cores",
    "collectives",
    "build ms",
];

pub(super) fn as_text(rows: &[Row]) -> String {
    let mut shapes: Vec<&Option<Shapes>> = Vec::new();
    for row in rows {
        if !shapes.contains(&&row.shapes) {
            shapes.push(&row.shapes);
        }
    }
    shapes.into_iter().map(|shapes| table(rows, shapes)).collect::<Vec<_>>().join("\n")
}

/// The models with inputs of these shapes.
fn table(rows: &[Row], shapes: &Option<Shapes>) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.shapes == *shapes).collect();
    let mut columns = [Column::Right; HEADINGS.len()];
    columns[0] = Column::CutStart;
    let rows = rows.iter().map(|row| cells(row, rows[0]).to_vec()).collect();
    let heading = match shapes {
        Some(shapes) => format!("{HEADING}inputs {shapes}{HEADING:#}\n"),
        None => String::new(),
    };
    heading + &Table { columns: &columns, heading: &HEADINGS, rows }.lines(Some(width()), |_| Style::new())
}

fn cells(row: &Row, first: &Row) -> [String; HEADINGS.len()] {
    let ms = |ms: f64| format!("{ms:.3}");
    [
        row.setup.model.clone(),
        row.setup.ranks.unwrap_or(1).to_string(),
        row.median(|round| round.threads as f64).to_string(),
        format!("{:.1}", row.median(Measure::calls_per_second)),
        format!("{:.3}", row.ratio(first)),
        ms(row.least_ms()),
        ms(row.median(|round| round.ms[1])),
        ms(row.median(|round| round.ms[2])),
        ms(row.most_ms()),
        row.gflops().map_or("-".to_owned(), |gflops| format!("{gflops:.1}")),
        format!("{:.2}", row.cores()),
        share(&row.collectives()),
        format!("{:.0}", row.median(|round| round.build_ms)),
    ]
}

/// `3.1%`, or `3.1-4.2%` when ranks differ.
fn share(of_ranks: &[f64]) -> String {
    let percent = |part: f64| format!("{:.1}", 100.0 * part);
    let least = percent(of_ranks.iter().copied().fold(f64::INFINITY, f64::min));
    let most = percent(of_ranks.iter().copied().fold(0.0, f64::max));
    match least == most {
        true => format!("{most}%"),
        false => format!("{least}-{most}%"),
    }
}

/// An object for each row, on a line of its own.
pub(super) fn as_json(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let first = rows.iter().find(|first| first.shapes == row.shapes).unwrap_or(row);
        let object = json!({
            "bench": "model",
            "model": row.setup.model,
            "ranks": row.setup.ranks,
            "threads": row.rounds.first().map(|round| round.threads),
            "shapes": row.shapes.as_ref().map(|shapes| &shapes.0),
            "calls_per_s": row.median(Measure::calls_per_second),
            "ratio": row.ratio(first),
            "min_ms": row.least_ms(),
            "median_ms": row.median(|round| round.ms[1]),
            "p90_ms": row.median(|round| round.ms[2]),
            "max_ms": row.most_ms(),
            "gflops": row.gflops(),
            "cores": row.cores(),
            "collectives": row.collectives(),
            "build_ms": row.median(|round| round.build_ms),
            "rounds": row.rounds,
        });
        object.to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_range_where_ranks_differ() {
        assert_eq!(share(&[0.0]), "0.0%");
        assert_eq!(share(&[0.031, 0.0312]), "3.1%");
        assert_eq!(share(&[0.25, 0.03, 0.5]), "3.0-50.0%");
    }
}
