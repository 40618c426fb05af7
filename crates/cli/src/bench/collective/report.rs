//! Tables and plot of what was measured.

use anstyle::Style;

use super::is_own;
use super::operation::Case;
use super::row::{Row, Sample};
use crate::output::visible;
use crate::plot::{Chart, Line};
use crate::table::{Column, FAINT, HEADING, Table};

const HEADINGS: [&str; 10] = [
    "size(B)",
    "count",
    "min(us)",
    "avg(us)",
    "median(us)",
    "max(us)",
    "algbw(GB/s)",
    "busbw(GB/s)",
    "#wrong",
    "iters",
];

/// What the plot shows by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Quantity {
    /// Time of an operation
    Time,
    /// Bus bandwidth
    Busbw,
}

/// A table for each operation and number of ranks, and one that compares, if there is more than one implementation.
pub(super) fn as_text(rows: &[Row], kind: &str) -> String {
    let mut text = String::new();
    for rows in rows.chunk_by(|a, b| (a.operation, a.ranks) == (b.operation, b.ranks)) {
        let names = implementations(rows);
        for name in names.iter().filter(|name| is_own(name)) {
            let own = rows.iter().filter(|row| row.implementation == *name);
            let table =
                Table { columns: &[Column::Right; 10], heading: &HEADINGS, rows: own.map(figures).collect() };
            let title = title(&rows[0]);
            text += &format!("{HEADING}{title}{HEADING:#}{FAINT}, {kind}, {name}{FAINT:#}\n");
            text += &table.lines(None, |_| Style::new());
        }
        if names.len() > 1 {
            text += &format!("\n  {FAINT}time in us, and as multiple of {}'s{FAINT:#}\n", visible(names[0]));
            text += &comparison(rows, &names);
        }
        text.push('\n');
    }
    text
}

fn title(row: &Row) -> String {
    let what = match row.case {
        Some(case) if case.operation.reduces() => {
            format!("{}({}) {}", row.operation, case.reduction, case.dtype)
        }
        Some(case) => format!("{} {}", row.operation, case.dtype),
        None => row.operation.to_string(),
    };
    format!("{what}, {} rank{}", row.ranks, if row.ranks == 1 { "" } else { "s" })
}

fn figures(row: &Row) -> Vec<String> {
    let Sample { min, avg, median, max } = row.typical();
    let (algorithm, bus) = row.bandwidths();
    let count = |count: Option<usize>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let elements = row.case.as_ref().map(Case::elements).map(|(send, recv)| send.max(recv));
    let numbers = [min, avg, median, max, algorithm, bus].map(short);
    [row.bytes.to_string(), count(elements)]
        .into_iter()
        .chain(numbers)
        .chain([count(row.wrong), count(row.iterations)])
        .collect()
}

fn comparison(rows: &[Row], names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().map(|name| visible(name)).collect();
    let mut heading = vec!["size(B)", &shown[0]];
    shown[1..].iter().for_each(|name| heading.extend([name.as_str(), "x"]));
    let columns = vec![Column::Right; heading.len()];
    let first = rows.iter().filter(|row| row.implementation == names[0]);
    let line = |first: &Row| {
        let mut line = vec![first.bytes.to_string(), short(first.time())];
        for name in &names[1..] {
            let other = rows.iter().find(|row| row.is_same_case(first) && row.implementation == *name);
            match other.map(Row::time) {
                Some(time) => line.extend([short(time), format!("{:.2}", time / first.time())]),
                None => line.extend(["-".to_owned(), "-".to_owned()]),
            }
        }
        line
    };
    Table { columns: &columns, heading: &heading, rows: first.map(line).collect() }
        .lines(None, |_| Style::new())
}

/// Names in the order in which they come: ours are first.
fn implementations(rows: &[Row]) -> Vec<&str> {
    let mut names = Vec::new();
    for row in rows {
        if !names.contains(&row.implementation.as_str()) {
            names.push(&row.implementation);
        }
    }
    names
}

/// A number with four digits or so.
fn short(value: f64) -> String {
    let decimals = match value {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A line for each operation, number of ranks and implementation.
pub(super) fn as_svg(rows: &[Row], quantity: Quantity) -> String {
    let (title, value): (_, fn(&Row) -> f64) = match quantity {
        Quantity::Time => ("Microseconds by bytes", Row::time),
        Quantity::Busbw => ("Bus bandwidth in GB/s by bytes", |row| row.bandwidths().1),
    };
    let mut lines: Vec<Line> = Vec::new();
    for row in rows.iter().filter(|row| row.bytes > 0) {
        let label = format!("{} x {}, {}", row.operation, row.ranks, row.implementation);
        let point = (row.bytes as f64, value(row));
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { label, points: vec![point], is_guide: false }),
        }
    }
    Chart { title, lines, x_text: bytes_text }.as_svg()
}

/// `512`, `64K`, `16M`.
pub(super) fn bytes_text(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit < 3 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned() + ["", "K", "M", "G"][unit]
}

#[cfg(test)]
mod tests {
    use mslite::DType;
    use mslite_collective::Reduction;

    use super::super::OWN_NAME;
    use super::super::operation::Operation;
    use super::*;

    fn rows() -> Vec<Row> {
        let cases = Case::all(&[Operation::AllReduce], &[8, 65536], 2, DType::F32, Reduction::Sum);
        let mut rows: Vec<Row> =
            cases.iter().map(|case| Row::new(OWN_NAME, case, vec![Sample::of(vec![1.0, 2.0])])).collect();
        rows.push(Row {
            implementation: "mpi<1>".into(),
            case: None,
            samples: vec![Sample::of(vec![5.0])],
            ..rows[1].clone()
        });
        rows
    }

    #[test]
    fn peers_stand_beside_ours() {
        let text = anstream::adapter::strip_str(&as_text(&rows(), "processes")).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(text.lines().next(), Some("all_reduce(sum) f32, 2 ranks, processes, mslite"));
        assert!(
            lines.contains(&vec![
                "65536", "16384", "1.000", "1.500", "1.500", "2.000", "32.77", "32.77", "-", "-"
            ]),
            "{text}"
        );
        assert!(lines.contains(&vec!["8", "2.000", "-", "-"]), "{text}");
        assert!(lines.contains(&vec!["65536", "2.000", "5.000", "2.50"]), "{text}");
    }

    #[test]
    fn plots_have_a_line_for_each_implementation() {
        for quantity in [Quantity::Time, Quantity::Busbw] {
            let svg = as_svg(&rows(), quantity);
            assert_eq!(svg.matches("<polyline").count(), 2);
            assert!(svg.contains("all_reduce x 2, mpi&lt;1&gt;") && svg.contains(">64K<"), "{svg}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.2234, 12.345, 123.45, 65432.1].map(short), ["0.223", "12.35", "123.5", "65432"]);
        assert_eq!([8.0, 1536.0, 67108864.0].map(bytes_text), ["8", "1.5K", "64M"]);
    }
}
