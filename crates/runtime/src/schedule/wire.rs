//! Schedules as bytes for the other ranks: a line for each step, with fields between tabs.

use mslite_collective::GroupName;
use mslite_tensor::{DType, Dim};

use super::{Exchange, Message, Schedule, Step};

/// Deepest nesting that is read.
const DEPTH: usize = 128;

impl Schedule {
    /// Bytes for the other ranks.
    pub fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        write(&self.steps, &mut lines);
        lines.into_bytes()
    }

    /// Reads what another rank has encoded.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        let (steps, end) = read(&mut lines, DEPTH)?;
        (end == Stop::Text).then_some(Schedule { steps })
    }
}

fn write(steps: &[Step], lines: &mut String) {
    for step in steps {
        match step {
            Step::Exchange(exchange) => line(&fields(exchange), lines),
            Step::Branch { origin, ways: [then, otherwise] } => {
                line(&["if".to_owned(), origin.clone()], lines);
                write(then, lines);
                line(&["else".to_owned()], lines);
                write(otherwise, lines);
                line(&["end".to_owned()], lines);
            }
            Step::Loop { origin, body } => {
                line(&["loop".to_owned(), origin.clone()], lines);
                write(body, lines);
                line(&["end".to_owned()], lines);
            }
        }
    }
}

fn line(fields: &[String], lines: &mut String) {
    let fields: Vec<String> = fields.iter().map(|field| escape(field)).collect();
    lines.push_str(&fields.join("\t"));
    lines.push('\n');
}

fn fields(exchange: &Exchange) -> [String; 8] {
    let list = |numbers: Vec<String>| numbers.join(",");
    let message = exchange.message.map(|Message { from, to, tag }| format!("{from},{to},{tag}"));
    let (dtype, count) = match &exchange.data {
        Some((dtype, count)) => (dtype.name().to_owned(), count.as_ref().map(Dim::to_string)),
        None => (String::new(), None),
    };
    [
        "do".to_owned(),
        exchange.group.to_string(),
        list(exchange.ranks.iter().map(usize::to_string).collect()),
        message.unwrap_or_default(),
        exchange.kind.to_string(),
        dtype,
        count.unwrap_or_default(),
        exchange.origin.clone(),
    ]
}

/// What stands after a list of steps.
#[derive(PartialEq, Eq)]
enum Stop {
    Text,
    Else,
    End,
}

fn read<'a>(lines: &mut impl Iterator<Item = &'a str>, depth: usize) -> Option<(Vec<Step>, Stop)> {
    let depth = depth.checked_sub(1)?;
    let mut steps = Vec::new();
    while let Some(line) = lines.next() {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        match (fields.first()?.as_str(), fields.len()) {
            ("else", 1) => return Some((steps, Stop::Else)),
            ("end", 1) => return Some((steps, Stop::End)),
            ("if", 2) => {
                let (then, Stop::Else) = read(lines, depth)? else { return None };
                let (otherwise, Stop::End) = read(lines, depth)? else { return None };
                steps.push(Step::Branch { origin: fields[1].clone(), ways: [then, otherwise] });
            }
            ("loop", 2) => {
                let (body, Stop::End) = read(lines, depth)? else { return None };
                steps.push(Step::Loop { origin: fields[1].clone(), body });
            }
            ("do", 8) => steps.push(Step::Exchange(exchange(&fields)?)),
            _ => return None,
        }
    }
    Some((steps, Stop::Text))
}

fn exchange(fields: &[String]) -> Option<Exchange> {
    let [_, group, ranks, message, kind, dtype, count, origin] = fields else { return None };
    let numbers = |text: &str| -> Option<Vec<i64>> {
        text.split(',').filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect()
    };
    let rank = |number: i64| usize::try_from(number).ok();
    let message = match numbers(message)?[..] {
        [] => None,
        [from, to, tag] => Some(Message { from: rank(from)?, to: rank(to)?, tag }),
        _ => return None,
    };
    let count = (!count.is_empty()).then(|| count.parse::<Dim>().ok());
    let data = match dtype.is_empty() {
        true => None,
        false => Some((
            dtype.parse::<DType>().ok()?,
            match count {
                Some(count) => Some(count?),
                None => None,
            },
        )),
    };
    Some(Exchange {
        group: GroupName::from(group.as_str()),
        ranks: numbers(ranks)?.into_iter().map(rank).collect::<Option<_>>()?,
        message,
        kind: kind.parse().ok()?,
        data,
        origin: origin.clone(),
    })
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                other => out.extend(other),
            },
            (c, false) => out.push(c),
        }
    }
    out
}
