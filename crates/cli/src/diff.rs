//! `mslite diff`: in what two model files differ.

mod nodes;
mod parameters;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mslite::{Error, ErrorKind, Key, Result};
use mslite_mindir::{Error as ReadError, Model, OpenOptions};
use serde::Serialize;

use crate::inspect::{as_error, type_text};
use crate::output;
use crate::run::parse_key;

/// Compares two model files: versions, user info, inputs and outputs, operators, scopes, nodes with attributes and operands,
/// parameters with their values. How the files are laid out (split, encrypted) is no difference.
///
/// Nodes are the same when their scoped names are; parameters when their names are; outputs when their nodes are. The exit status is 0 when the
/// models are equal, 1 when they differ, 2 in case of trouble.
///
/// Example:
///   mslite diff before.mindir after.mindir
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DiffArgs {
    /// First model file
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Second model file
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Key of an encrypted model: text, or hex digits after `hex:`; given twice: the second is that of B
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Vec<Key>,
    /// Compare everything but the values of parameters
    #[arg(long)]
    structure: bool,
    /// Print one JSON object, as the README of mslite-cli describes it
    #[arg(long)]
    json: bool,
}

pub(crate) fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let a = open(&args.a, args.key.first())?;
    let b = open(&args.b, args.key.get(1).or(args.key.first()))?;
    let difference = Difference::of(&a, &b, !args.structure);
    match args.json {
        true => {
            let text = serde_json::to_string(&difference).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot describe the differences").caused_by(error)
            })?;
            output::print(&(text + "\n"))?;
        }
        false => output::print_styled(&text::text(&difference))?,
    }
    Ok(if difference.equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Opens a model with the key if it needs one.
fn open(path: &Path, key: Option<&Key>) -> Result<Model> {
    let opened = match (Model::open(path, &OpenOptions::new()), key) {
        (Err(ReadError::KeyMissing { .. }), Some(key)) => {
            Model::open(path, &OpenOptions::new().key(key.clone()))
        }
        (opened, _) => opened,
    };
    opened.map_err(as_error)
}

/// In what two models differ; lists are empty where they do not.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Difference {
    pub(crate) equal: bool,
    /// Versions, user info, and other facts about the files.
    pub(crate) header: Vec<Change>,
    pub(crate) inputs: Vec<Change>,
    pub(crate) outputs: Vec<Change>,
    pub(crate) operators: Vec<CountChange>,
    pub(crate) functions: Only,
    pub(crate) scopes: Only,
    pub(crate) nodes: Only,
    /// Nodes of both that are not the same.
    pub(crate) changed_nodes: Vec<NodeChange>,
    pub(crate) parameters: Only,
    /// Parameters of both with other types or shapes.
    pub(crate) changed_parameters: Vec<Change>,
    /// Parameters of both with other values.
    pub(crate) values: Vec<ValueChange>,
}

/// One thing that is described differently; nothing stands for absence.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) what: String,
    pub(crate) a: Option<String>,
    pub(crate) b: Option<String>,
}

/// An operator that is used in different numbers.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CountChange {
    pub(crate) operator: String,
    pub(crate) a: usize,
    pub(crate) b: usize,
}

/// Names of what is in one of both only.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Only {
    pub(crate) only_a: Vec<String>,
    pub(crate) only_b: Vec<String>,
}

/// What is not the same about a node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeChange {
    pub(crate) node: String,
    pub(crate) changes: Vec<Change>,
}

/// A parameter whose values differ.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ValueChange {
    pub(crate) name: String,
    pub(crate) elements: u64,
    pub(crate) differing: u64,
    /// Greatest absolute difference; nothing when a value is not finite, or is no number.
    pub(crate) max_abs: Option<f64>,
}

impl Difference {
    fn of(a: &Model, b: &Model, values: bool) -> Self {
        let mut difference = Difference { header: header(a, b), ..Difference::default() };
        let ports = |model: &Model| -> Vec<(String, String)> {
            model.graph.inputs.iter().map(|i| (i.name.to_string(), type_text(i.ty.as_ref()))).collect()
        };
        difference.inputs = input_changes(&ports(a), &ports(b));
        difference.operators = operators(a, b);
        nodes::compare(a, b, &mut difference);
        parameters::compare(a, b, values, &mut difference);
        difference.equal = difference.is_empty();
        difference
    }

    fn is_empty(&self) -> bool {
        let Difference { equal: _, header, inputs, outputs, operators, functions, scopes, nodes, .. } = self;
        let Difference { changed_nodes, parameters, changed_parameters, values, .. } = self;
        let only = [functions, scopes, nodes, parameters];
        let changes = [header, inputs, outputs, changed_parameters];
        operators.is_empty()
            && changed_nodes.is_empty()
            && values.is_empty()
            && changes.iter().all(|changes| changes.is_empty())
            && only.iter().all(|only| only.only_a.is_empty() && only.only_b.is_empty())
    }
}

impl Only {
    /// What occurs in one of both only; names that occur several times count so often.
    pub(crate) fn of(a: impl IntoIterator<Item = String>, b: impl IntoIterator<Item = String>) -> Self {
        let mut balance: BTreeMap<String, isize> = BTreeMap::new();
        a.into_iter().for_each(|name| *balance.entry(name).or_default() += 1);
        b.into_iter().for_each(|name| *balance.entry(name).or_default() -= 1);
        let mut only = Only::default();
        for (name, count) in balance {
            let list = if count > 0 { &mut only.only_a } else { &mut only.only_b };
            list.extend(std::iter::repeat_n(name, count.unsigned_abs()));
        }
        only
    }
}

/// A change, if the two are not the same.
pub(crate) fn change(what: &str, a: Option<String>, b: Option<String>) -> Option<Change> {
    (a != b).then(|| Change { what: what.to_owned(), a, b })
}

fn header(a: &Model, b: &Model) -> Vec<Change> {
    let facts = |model: &Model| {
        [
            ("MindSpore version", model.model_version.to_string()),
            ("format version", model.format_version.to_string()),
            ("feature level", model.level.to_string()),
            ("producer", model.producer.to_string()),
            ("producer version", model.producer_version.to_string()),
        ]
    };
    let both = facts(a).into_iter().zip(facts(b));
    let facts = both.filter_map(|((what, a), (_, b))| change(what, Some(a), Some(b)));
    let keys: BTreeSet<&String> = a.user_info.keys().chain(b.user_info.keys()).collect();
    let of = |model: &Model, key: &str| model.user_info.get(key).cloned();
    let user = keys.into_iter().filter_map(|key| change(&format!("user info {key}"), of(a, key), of(b, key)));
    facts.chain(user).collect()
}

fn input_changes(a: &[(String, String)], b: &[(String, String)]) -> Vec<Change> {
    let describe = |port: Option<&(String, String)>| port.map(|(name, ty)| format!("{name}: {ty}"));
    let count = a.len().max(b.len());
    (0..count).filter_map(|i| change(&format!("input {i}"), describe(a.get(i)), describe(b.get(i)))).collect()
}

fn operators(a: &Model, b: &Model) -> Vec<CountChange> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (operator, &count) in &a.summary().operators {
        counts.entry(operator.to_string()).or_default().0 = count;
    }
    for (operator, &count) in &b.summary().operators {
        counts.entry(operator.to_string()).or_default().1 = count;
    }
    let changed = counts.into_iter().filter(|(_, (a, b))| a != b);
    changed.map(|(operator, (a, b))| CountChange { operator, a, b }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_as_often_as_they_occur() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let only = Only::of(names("x y y z"), names("y z w w"));
        assert_eq!(only.only_a, names("x y"));
        assert_eq!(only.only_b, names("w w"));
    }

    #[test]
    fn inputs_are_compared_by_position() {
        let port = |name: &str, ty: &str| (name.to_owned(), ty.to_owned());
        let changes = input_changes(&[port("x", "f32[2]")], &[port("x", "f32[3]"), port("y", "i32[]")]);
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].a.as_deref(), Some("x: f32[2]"));
        assert_eq!(changes[1].a, None);
    }
}
