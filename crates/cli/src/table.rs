//! Text in columns that fits a width.

use anstyle::{AnsiColor, Style};

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// What explains, and lines of trees.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// Collectives.
pub(crate) const COLLECTIVE: Style = AnsiColor::Magenta.on_default().bold();
/// What is only in the first of two.
pub(crate) const ONLY_A: Style = AnsiColor::Red.on_default();
/// What is only in the second of two.
pub(crate) const ONLY_B: Style = AnsiColor::Green.on_default();

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Left,
    Right,
    /// Takes what is left of the width, and loses its end when that is too little.
    CutEnd,
    /// The same, losing its start.
    CutStart,
}

/// Rows of text; an empty heading row is not printed.
pub(crate) struct Table<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) heading: &'a [&'a str],
    pub(crate) rows: Vec<Vec<String>>,
}

const GAP: usize = 2;
const INDENT: usize = 2;

impl Table<'_> {
    /// The lines, within `width` columns if given; `style` says how a row looks.
    pub(crate) fn lines(&self, width: Option<usize>, style: impl Fn(usize) -> Style) -> String {
        let heading: Vec<String> = self.heading.iter().map(|&text| text.to_owned()).collect();
        let widths = self.widths(&heading, width);
        let mut text = String::new();
        if !heading.is_empty() {
            text += &styled(&self.line(&heading, &widths), FAINT);
        }
        for (i, row) in self.rows.iter().enumerate() {
            text += &styled(&self.line(row, &widths), style(i));
        }
        text
    }

    fn widths(&self, heading: &[String], width: Option<usize>) -> Vec<usize> {
        let rows = || self.rows.iter().map(Vec::as_slice).chain((!heading.is_empty()).then_some(heading));
        let longest =
            |c: usize| rows().filter_map(|row| row.get(c)).map(|cell| columns(cell)).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.columns.len()).map(longest).collect();
        let Some(width) = width else { return widths };
        let gaps = INDENT + GAP * (widths.len().max(1) - 1);
        let mut excess = (gaps + widths.iter().sum::<usize>()).saturating_sub(width);
        for (column, wide) in self.columns.iter().zip(&mut widths).rev() {
            if matches!(column, Column::CutEnd | Column::CutStart) {
                let less = excess.min(wide.saturating_sub(16));
                *wide -= less;
                excess -= less;
            }
        }
        widths
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = " ".repeat(INDENT);
        for (i, ((cell, column), &width)) in row.iter().zip(self.columns).zip(widths).enumerate() {
            if i > 0 {
                line += &" ".repeat(GAP);
            }
            let cell = match column {
                Column::CutStart => cut_start(cell, width),
                _ => cut_end(cell, width),
            };
            let padding = " ".repeat(width.saturating_sub(columns(&cell)));
            line += &if *column == Column::Right { padding + &cell } else { cell + &padding };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn styled(line: &str, style: Style) -> String {
    format!("{style}{line}{style:#}\n")
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// The text without its end, when it is longer than `width`.
pub(crate) fn cut_end(text: &str, width: usize) -> String {
    match columns(text) <= width {
        true => text.to_owned(),
        false => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The text without its start, when it is longer than `width`.
pub(crate) fn cut_start(text: &str, width: usize) -> String {
    let excess = columns(text).saturating_sub(width);
    match excess {
        0 => text.to_owned(),
        _ => std::iter::once('…').chain(text.chars().skip(excess + 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cut_to_the_width() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = Table {
            columns: &[Column::Right, Column::Left, Column::CutStart],
            heading: &["n", "op", "scope"],
            rows: vec![row(["1", "Add", "a/b"]), row(["10", "MatMul", &"x/".repeat(20)])],
        };
        let plain = anstream::adapter::strip_str(&table.lines(Some(40), |_| Style::new())).to_string();
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines[0], "   n  op      scope");
        assert_eq!(lines[1], "   1  Add     a/b");
        assert_eq!(lines[2].chars().count(), 40);
        assert!(lines[2].starts_with("  10  MatMul  …") && lines[2].ends_with("x/x/"), "{}", lines[2]);
    }

    #[test]
    fn nothing_is_cut_without_a_width() {
        let table = Table { columns: &[Column::CutEnd], heading: &[], rows: vec![vec!["y".repeat(300)]] };
        assert!(table.lines(None, |_| Style::new()).contains(&"y".repeat(300)));
    }
}
