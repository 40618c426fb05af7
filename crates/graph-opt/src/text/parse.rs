use std::collections::HashMap;
use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use mslite_tensor::{Tensor, TensorSpec};

use super::field::Field;
use super::scan::{Cursor, Scanned, shown, split};
use super::{data, ops};
use crate::ir::{Def, MAX_NESTING, ValueId};
use crate::{Error, Graph, GraphBuilder, Result};

/// Most characters of a node's result types. Inference can double symbolic extents from node to node.
const MAX_TYPE_LENGTH: usize = 1 << 14;

impl FromStr for Graph {
    type Err = Error;

    /// Reads the text form; the graph is verified.
    ///
    /// # Errors
    /// [`Error::Parse`] with the first line that is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let mut lines = Lines { text: text.lines().enumerate(), last: 0 };
        let Some(first) = lines.next() else {
            return Err(Error::Parse { line: 1, reason: "there is no graph".to_owned() });
        };
        let graph = graph(&mut lines, first, 0)?;
        match lines.next() {
            Some((line, _)) => {
                Err(Error::Parse { line, reason: "nothing may follow the graph's `}`".to_owned() })
            }
            None => Ok(graph),
        }
    }
}

/// The lines that say something, with their numbers.
struct Lines<'a> {
    text: std::iter::Enumerate<std::str::Lines<'a>>,
    last: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let says = |line: &str| !line.is_empty() && !line.starts_with('#');
        let (i, line) = self.text.by_ref().map(|(i, line)| (i, line.trim())).find(|(_, line)| says(line))?;
        self.last = i + 1;
        Some((i + 1, line))
    }
}

/// The graph that begins with the line `first`.
fn graph(lines: &mut Lines<'_>, first: (usize, &str), depth: usize) -> Result<Graph> {
    let fail = |line, reason| Error::Parse { line, reason };
    if depth > MAX_NESTING {
        return Err(fail(first.0, format!("graphs nest deeper than {MAX_NESTING}")));
    }
    let mut parser = Parser::new(first.1).map_err(|reason| fail(first.0, reason))?;
    while let Some((number, line)) = lines.next() {
        if line == "}" {
            return parser.builder.finish().map_err(|error| fail(number, error.to_string()));
        }
        let (line, bodies) = match line.strip_suffix('{') {
            Some(line) => (line, bodies(lines, depth)?),
            None => (line, Vec::new()),
        };
        parser.item(line, bodies).map_err(|reason| fail(number, reason))?;
    }
    Err(fail(lines.last, "the graph has no `}`".to_owned()))
}

/// The graphs up to the `}` that belongs to a node.
fn bodies(lines: &mut Lines<'_>, depth: usize) -> Result<Vec<Graph>> {
    let mut bodies = Vec::new();
    while let Some(first) = lines.next() {
        if first.1 == "}" && bodies.is_empty() {
            return Err(Error::Parse { line: first.0, reason: "expected `graph`".to_owned() });
        }
        if first.1 == "}" {
            return Ok(bodies);
        }
        bodies.push(graph(lines, first, depth + 1)?);
    }
    Err(Error::Parse { line: lines.last, reason: "the node has no `}`".to_owned() })
}

struct Parser<'a> {
    builder: GraphBuilder,
    values: HashMap<&'a str, ValueId>,
}

impl<'a> Parser<'a> {
    fn new(line: &str) -> Scanned<Self> {
        let mut cursor = Cursor::new(line);
        cursor.expect("graph")?;
        let name = cursor.quoted()?;
        cursor.expect("{")?;
        cursor.end()?;
        Ok(Parser { builder: GraphBuilder::new(name), values: HashMap::new() })
    }

    fn item(&mut self, line: &'a str, bodies: Vec<Graph>) -> Scanned<()> {
        let cursor = Cursor::new(line);
        let mut rest = cursor;
        match rest.word() {
            "input" | "state" | "constant" | "output" | "next" if !bodies.is_empty() => {
                Err("only nodes have graphs inside".to_owned())
            }
            "input" => self.input(rest),
            "state" => self.state(rest),
            "constant" => self.constant(rest),
            "output" => self.output(rest),
            "next" => self.next(rest),
            _ => self.node(cursor, bodies),
        }
    }

    fn input(&mut self, mut cursor: Cursor<'a>) -> Scanned<()> {
        let (value, name) = (cursor.value()?, cursor.quoted()?);
        cursor.expect(":")?;
        let spec = TensorSpec::parse(cursor.rest())?;
        let id = self.builder.input(name, spec);
        self.define(value, id)
    }

    fn state(&mut self, cursor: Cursor<'a>) -> Scanned<()> {
        let (value, name, tensor) = stored(cursor)?;
        let id = self.builder.state(name, tensor);
        self.define(value, id)
    }

    fn constant(&mut self, cursor: Cursor<'a>) -> Scanned<()> {
        let (value, name, tensor) = stored(cursor)?;
        let id = self.builder.constant(name, tensor);
        self.define(value, id)
    }

    fn output(&mut self, mut cursor: Cursor<'a>) -> Scanned<()> {
        let name = cursor.quoted()?;
        let value = self.value(&mut cursor)?;
        self.builder.output(name, value);
        cursor.end()
    }

    fn next(&mut self, mut cursor: Cursor<'a>) -> Scanned<()> {
        let value = self.value(&mut cursor)?;
        cursor.expect("=")?;
        let next = self.value(&mut cursor)?;
        cursor.end()?;
        let Def::State(state) = self.builder.graph().value(value).def else {
            return Err(format!("{value} is not a state"));
        };
        self.builder.set_next(state, next).map_err(|error| error.to_string())
    }

    fn node(&mut self, mut cursor: Cursor<'a>, bodies: Vec<Graph>) -> Scanned<()> {
        let mut names = Vec::new();
        while cursor.rest().starts_with('%') {
            names.push(cursor.value()?);
            if cursor.eat("=") {
                break;
            }
            cursor.expect(",")?;
        }
        let name = cursor.word();
        let attributes = cursor.bracketed(['(', ')'])?.unwrap_or_default();
        let operands = self.operands(&mut cursor)?;
        let types = types(&mut cursor)?;
        let origin: Arc<str> = if cursor.eat("@") { cursor.quoted()?.into() } else { "".into() };
        cursor.end()?;
        let op = ops::parse(name, attributes, types.as_deref(), bodies)?;
        let results = self.builder.push(op, &operands, &origin).map_err(|error| error.to_string())?;
        let inferred: Vec<&TensorSpec> = results.iter().map(|&value| self.builder.spec(value)).collect();
        check_types(&inferred, types.as_deref())?;
        if names.len() != results.len() {
            return Err(format!("{name} has {} results, not {}", results.len(), names.len()));
        }
        names.into_iter().zip(results).try_for_each(|(name, id)| self.define(name, id))
    }

    fn operands(&self, cursor: &mut Cursor<'a>) -> Scanned<Vec<ValueId>> {
        let mut operands = Vec::new();
        if cursor.rest().starts_with('%') {
            operands.push(self.value(cursor)?);
            while cursor.eat(",") {
                operands.push(self.value(cursor)?);
            }
        }
        Ok(operands)
    }

    fn value(&self, cursor: &mut Cursor<'a>) -> Scanned<ValueId> {
        let name = cursor.value()?;
        self.values.get(name).copied().ok_or_else(|| format!("%{name} is not defined before"))
    }

    fn define(&mut self, name: &'a str, id: ValueId) -> Scanned<()> {
        match self.values.insert(name, id) {
            Some(_) => Err(format!("%{name} is defined twice")),
            None => Ok(()),
        }
    }
}

/// Value, name and tensor of a state or a constant.
fn stored(mut cursor: Cursor<'_>) -> Scanned<(&str, String, Tensor)> {
    let (value, name) = (cursor.value()?, cursor.quoted()?);
    cursor.expect(":")?;
    let (spec, data) = cursor
        .rest()
        .split_once('=')
        .ok_or_else(|| format!("expected `= data` at {}", shown(cursor.rest())))?;
    let tensor = data::parse(&TensorSpec::parse(spec)?, data.trim())?;
    Ok((value, name, tensor.into_shared()))
}

/// The types after `:`, if they are there.
fn types(cursor: &mut Cursor<'_>) -> Scanned<Option<Vec<TensorSpec>>> {
    if !cursor.eat(":") {
        return Ok(None);
    }
    let text = cursor.rest();
    let end = text.find('@').unwrap_or(text.len());
    let types = split(&text[..end])?.into_iter().map(TensorSpec::parse).collect::<Scanned<_>>()?;
    *cursor = Cursor::new(&text[end..]);
    Ok(Some(types))
}

fn check_types(inferred: &[&TensorSpec], written: Option<&[TensorSpec]>) -> Scanned<()> {
    let mut text = Bounded { text: String::new() };
    for (i, spec) in inferred.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(text, "{comma}{spec}").map_err(|_| "the extents of the result are too long".to_owned())?;
    }
    match written {
        Some(written) if !written.iter().eq(inferred.iter().copied()) => {
            Err(format!("the results are {}, not what is written", text.text))
        }
        _ => Ok(()),
    }
}

/// Text that does not grow without limit.
struct Bounded {
    text: String,
}

impl Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.text.len() + s.len() > MAX_TYPE_LENGTH {
            return Err(fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}
