//! A model for the terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anstyle::Style;

use super::scopes::Scope;
use super::view::{Exchange, Parameter, Port, View};
use crate::output::{size, visible};
use crate::table::{COLLECTIVE, Column, FAINT, HEADING, Table, cut_end};

/// How many lines of a list are shown, unless everything is.
const LINES: usize = 40;

/// The text, with `depth` levels of scopes (0: all). Without a width nothing is cut.
pub(crate) fn text(view: &View<'_>, depth: usize, width: Option<usize>) -> String {
    let mut page = Page { text: String::new(), width };
    page.header(view);
    page.ports("Inputs", &view.inputs);
    page.ports("Outputs", &view.outputs);
    page.scopes(view, depth);
    page.operators(view);
    page.collectives(view);
    page.effects(view);
    page.functions(view);
    page.parameters(view);
    page.warnings(view);
    page.text
}

struct Page {
    text: String,
    width: Option<usize>,
}

impl Page {
    fn header(&mut self, view: &View<'_>) {
        let name = visible(view.name);
        let name = self.width.map_or(name.clone(), |width| cut_end(&name, width));
        let mut facts = Vec::new();
        if !view.format_version.is_empty() {
            facts.push(format!("format {}", visible(view.format_version)));
        }
        if !matches!(view.producer, "" | "MindSpore") {
            facts.push(format!("written by {}", visible(view.producer)));
        }
        if !view.model_version.is_empty() {
            facts.insert(0, format!("MindSpore {}", visible(view.model_version)));
        }
        facts.push(format!("feature level {}", view.level));
        facts.extend(view.encryption.iter().map(|mode| format!("encrypted with {mode}")));
        let _ = writeln!(self.text, "{HEADING}{name}{HEADING:#}\n{}", facts.join(", "));
    }

    fn heading(&mut self, title: &str, remark: &str) {
        let gap = if remark.is_empty() { "" } else { "  " };
        let _ = writeln!(self.text, "\n{HEADING}{title}{HEADING:#}{gap}{FAINT}{remark}{FAINT:#}");
    }

    /// A table, shortened to some lines unless everything is shown.
    fn table(&mut self, mut table: Table<'_>, style: impl Fn(usize) -> Style) {
        let all = table.rows.len();
        if self.width.is_some() && all > LINES {
            table.rows.truncate(LINES - 1);
        }
        self.text += &table.lines(self.width, style);
        if table.rows.len() < all {
            let more = all - table.rows.len();
            let _ = writeln!(self.text, "  {FAINT}... {more} more; --depth 0 shows all{FAINT:#}");
        }
    }

    fn ports(&mut self, title: &str, ports: &[Port<'_>]) {
        if ports.is_empty() {
            return;
        }
        self.heading(title, "");
        let rows = ports.iter().map(|port| vec![visible(port.name), visible(&port.ty)]).collect();
        self.table(Table { columns: &[Column::CutEnd, Column::CutEnd], heading: &[], rows }, plain);
    }

    fn scopes(&mut self, view: &View<'_>, depth: usize) {
        let deepest = view.scopes.iter().map(|scope| scope.depth).max().unwrap_or(0);
        let remark = match depth {
            0 => String::new(),
            shown if shown >= deepest => String::new(),
            shown => format!("{shown} of {deepest} levels; --depth 0 shows all"),
        };
        self.heading("Scopes", &remark);
        let mut tree = Tree { view, depth, rows: Vec::new(), exchanging: Vec::new() };
        for (i, scope) in view.scopes.iter().enumerate().filter(|(_, scope)| scope.parent.is_none()) {
            let name = if scope.graph == 0 { "(entry)".to_owned() } else { visible(&scope.name) };
            tree.row(scope, name);
            tree.children(i, "");
        }
        let table = Table {
            columns: &[Column::CutEnd, Column::Right, Column::Right, Column::Right, Column::CutEnd],
            heading: &["", "nodes", "params", "size", "output"],
            rows: tree.rows,
        };
        let exchanging = tree.exchanging;
        self.table(table, |i| if exchanging[i] { COLLECTIVE } else { Style::new() });
        if exchanging.contains(&true) {
            let _ = writeln!(self.text, "  {COLLECTIVE}*{COLLECTIVE:#} has collectives itself");
        }
    }

    fn operators(&mut self, view: &View<'_>) {
        let remark = format!("{} nodes and {} constants", view.nodes, view.constants);
        self.heading("Operators", &remark);
        let cells: Vec<String> = view
            .operators
            .iter()
            .map(|count| format!("{:>5} {}", count.count, visible(&count.operator)))
            .collect();
        let widest = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(1);
        let across = ((self.width.unwrap_or(80) - 2) / (widest + 2)).max(1);
        let down = cells.len().div_ceil(across);
        let row = |r: usize| cells.iter().skip(r).step_by(down.max(1)).cloned().collect();
        let columns = vec![Column::Left; across];
        self.table(Table { columns: &columns, heading: &[], rows: (0..down).map(row).collect() }, plain);
    }

    fn collectives(&mut self, view: &View<'_>) {
        if view.collectives.is_empty() {
            return;
        }
        self.heading("Collectives", &format!("{} in order of the file", view.collectives.len()));
        let groups: BTreeSet<String> = view.collectives.iter().filter_map(group_text).collect();
        for group in &groups {
            let _ = writeln!(self.text, "  {group}");
        }
        let row = |(i, exchange): (usize, &Exchange<'_>)| {
            vec![
                (i + 1).to_string(),
                what(exchange),
                exchange.bytes.map_or_else(|| "?".to_owned(), size),
                visible(exchange.group.unwrap_or("-")),
                visible(exchange.scope),
            ]
        };
        let table = Table {
            columns: &[Column::Right, Column::Left, Column::Right, Column::Left, Column::CutStart],
            heading: &["#", "operator", "size", "group", "scope"],
            rows: view.collectives.iter().enumerate().map(row).collect(),
        };
        self.table(table, plain);
    }

    fn effects(&mut self, view: &View<'_>) {
        if view.effects.is_empty() {
            return;
        }
        self.heading("Effects", "nodes that write state, or send and receive");
        let rows = view.effects.iter().map(|effect| {
            vec![
                effect.kind.to_owned(),
                cut_end(&visible(&effect.operator), 30),
                visible(effect.parameter.unwrap_or("-")),
                visible(effect.scope),
            ]
        });
        let table = Table {
            columns: &[Column::Left, Column::Left, Column::CutStart, Column::CutStart],
            heading: &["kind", "operator", "parameter", "scope"],
            rows: rows.collect(),
        };
        self.table(table, plain);
    }

    fn functions(&mut self, view: &View<'_>) {
        if view.functions.is_empty() {
            return;
        }
        self.heading("Functions", "");
        let rows = view.functions.iter().map(|function| {
            let numbers = [function.nodes, function.inputs, function.callers].map(|n| n.to_string());
            let mut row = vec![visible(function.name)];
            row.extend(numbers);
            row.push(visible(&function.outputs.join(", ")));
            row
        });
        let table = Table {
            columns: &[Column::CutStart, Column::Right, Column::Right, Column::Right, Column::CutEnd],
            heading: &["", "nodes", "inputs", "callers", "output"],
            rows: rows.collect(),
        };
        self.table(table, plain);
    }

    fn parameters(&mut self, view: &View<'_>) {
        if view.parameters.is_empty() {
            return;
        }
        let remark = format!("{} of {}", view.parameters.len(), size(view.parameter_bytes));
        self.heading("Parameters", &remark);
        let row = |p: &Parameter<'_>| vec![visible(p.name), parameter_type(p), size(p.bytes)];
        let table = Table {
            columns: &[Column::CutStart, Column::CutEnd, Column::Right],
            heading: &[],
            rows: view.parameters.iter().map(row).collect(),
        };
        self.table(table, plain);
    }

    fn warnings(&mut self, view: &View<'_>) {
        if view.warnings.is_empty() {
            return;
        }
        self.heading("Warnings", "");
        let rows = view.warnings.iter().map(|warning| vec![visible(warning)]).collect();
        self.table(Table { columns: &[Column::CutEnd], heading: &[], rows }, plain);
    }
}

fn plain(_row: usize) -> Style {
    Style::new()
}

fn parameter_type(parameter: &Parameter<'_>) -> String {
    let map = if parameter.map { "map of " } else { "" };
    let quantized = if parameter.quantized { ", quantised" } else { "" };
    format!("{map}{}{:?}{quantized}", parameter.dtype, parameter.shape)
}

/// Operator, reduction and the other rank.
fn what(exchange: &Exchange<'_>) -> String {
    let mut text = visible(exchange.operator);
    if let Some(reduction) = exchange.reduction {
        let _ = write!(text, " {}", visible(reduction));
    }
    if let Some(peer) = exchange.peer {
        let direction = match exchange.operator {
            "Send" => "to",
            "Receive" => "from",
            _ => "root",
        };
        let _ = write!(text, " {direction} {peer}");
    }
    text
}

fn group_text(exchange: &Exchange<'_>) -> Option<String> {
    let ranks: Vec<String> = exchange.ranks.as_ref()?.iter().map(i64::to_string).collect();
    Some(format!("group {}: ranks {}", visible(exchange.group.unwrap_or("-")), ranks.join(" ")))
}

struct Tree<'a> {
    view: &'a View<'a>,
    depth: usize,
    rows: Vec<Vec<String>>,
    /// Whether there are collectives in the scope of a row that are in no scope below it that is shown.
    exchanging: Vec<bool>,
}

impl Tree<'_> {
    fn children(&mut self, parent: usize, lead: &str) {
        let view = self.view;
        let scope = &view.scopes[parent];
        if self.depth != 0 && scope.depth >= self.depth {
            return;
        }
        for (i, &child) in scope.children.iter().enumerate() {
            let last = i + 1 == scope.children.len();
            let (branch, below) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
            let scope = &view.scopes[child];
            self.row(scope, format!("{lead}{branch}{}", visible(&scope.name)));
            self.children(child, &format!("{lead}{below}"));
        }
    }

    fn row(&mut self, scope: &Scope, name: String) {
        let shown = self.depth == 0 || scope.depth < self.depth;
        let below = scope.children.iter().map(|&child| self.view.scopes[child].collectives).sum::<usize>();
        let exchanging = scope.collectives > if shown { below } else { 0 };
        let mark = if exchanging { " *" } else { "" };
        let output = match (scope.outputs.first(), scope.output_count) {
            (None, _) => String::new(),
            (Some(first), 1) => visible(first),
            (Some(first), count) => format!("{} and {} more", visible(first), count - 1),
        };
        self.rows.push(vec![
            name + mark,
            scope.operations.to_string(),
            number(scope.parameters),
            if scope.parameters == 0 { String::new() } else { size(scope.parameter_bytes) },
            output,
        ]);
        self.exchanging.push(exchanging);
    }
}

fn number(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}
