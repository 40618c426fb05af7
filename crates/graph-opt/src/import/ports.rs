//! Inputs and outputs of the entry graph, with the names that users see.

use std::collections::{BTreeMap, HashMap};

use mslite_mindir::{DataType, Model, Node, Type};
use mslite_tensor::{Dim, Shape, TensorSpec};

use super::emit::Emitter;
use super::item::{Item, MAX_DEPTH, MAX_ELEMENTS};
use crate::Result;

/// Names in use, each with the number to try next.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, usize>);

impl Names {
    /// The name, or where it is taken, one like it.
    pub(crate) fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_owned();
        while self.0.contains_key(&candidate) {
            let next = self.0.entry(name.to_owned()).or_insert(1);
            candidate = format!("{name}_{next}");
            *next += 1;
        }
        self.0.insert(candidate.clone(), 1);
        candidate
    }
}

/// Adds what an input of the entry graph stands for.
pub(super) struct Inputs<'e> {
    pub(super) emit: &'e mut Emitter,
    /// Number of axes where the model leaves it open, by name.
    pub(super) axes: &'e BTreeMap<String, usize>,
    pub(super) names: Names,
    pub(super) symbols: Names,
}

impl Inputs<'_> {
    pub(super) fn add(&mut self, name: &str, ty: Option<&Type>) -> Result<Item> {
        match ty {
            None => Err(self.emit.invalid("the model does not state the type of this input")),
            Some(ty) => self.item(name, ty, 0),
        }
    }

    fn item(&mut self, name: &str, ty: &Type, depth: usize) -> Result<Item> {
        match ty {
            Type::Tensor(tensor) => {
                let name = self.names.unique(name);
                let symbols = &mut self.symbols;
                let spec = tensor.spec(|axis| symbol(symbols, &name, axis)).ok_or_else(|| {
                    self.emit.unsupported("an input", format!("tensors hold no {}", tensor.dtype))
                })?;
                let spec = match self.axes.get(&name) {
                    Some(&count) if spec.shape.rank().is_none() => {
                        let dims = (0..count).map(|axis| symbol(symbols, &name, axis));
                        TensorSpec::new(spec.dtype, Shape::ranked(dims))
                    }
                    _ => spec,
                };
                Ok(Item::Tensor(self.emit.builder.input(name, spec)))
            }
            Type::Scalar(dtype) => self.scalar(name, *dtype),
            Type::Tuple(sequence) | Type::List(sequence) => {
                if sequence.dynamic_len || depth >= MAX_DEPTH {
                    return Err(self.emit.unsupported(
                        "an input",
                        "it is a sequence of unknown length; export with a tuple of fixed length",
                    ));
                }
                let elements = sequence.elements.iter().enumerate();
                let items: Result<Vec<Item>> =
                    elements.map(|(i, ty)| self.item(&format!("{name}_{i}"), ty, depth + 1)).collect();
                Ok(Item::tuple(items?))
            }
            Type::Monad(_) => Ok(Item::Monad),
            Type::None => Ok(Item::None),
            _ => {
                Err(self.emit.unsupported("an input", "it is neither a tensor, a number nor a tuple of them"))
            }
        }
    }

    fn scalar(&mut self, name: &str, dtype: DataType) -> Result<Item> {
        let dtype = dtype
            .dtype()
            .ok_or_else(|| self.emit.unsupported("an input", format!("tensors hold no {dtype}")))?;
        let name = self.names.unique(name);
        Ok(Item::Tensor(self.emit.builder.input(name, TensorSpec::new(dtype, Shape::scalar()))))
    }
}

/// A new symbol for an extent.
pub(super) fn symbol(symbols: &mut Names, name: &str, axis: usize) -> Dim {
    let letters = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' });
    let mut text: String = letters.collect();
    if !text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        text.insert(0, '_');
    }
    // `floor` and `max` are functions in the text form of extents.
    Dim::symbol(&symbols.unique(&format!("{text}_{axis}")))
}

/// The tensors of an output, flattened, with the names of the nodes that make them.
pub(super) fn outputs(model: &Model, symbol: &str, item: &Item) -> Option<Vec<(String, Item)>> {
    let mut ports = Vec::new();
    flatten(model, symbol, item, 0, &mut ports)?;
    Some(ports)
}

fn flatten(
    model: &Model,
    symbol: &str,
    item: &Item,
    depth: usize,
    ports: &mut Vec<(String, Item)>,
) -> Option<()> {
    let symbol = through_depends(model, symbol);
    let node = model.node(symbol);
    match (item, node) {
        (Item::Tuple(items), Some(node)) if is_tuple(node) && node.inputs.len() == items.len() => {
            if depth >= MAX_DEPTH {
                return None;
            }
            items
                .iter()
                .zip(&node.inputs)
                .try_for_each(|(item, input)| flatten(model, input, item, depth + 1, ports))
        }
        _ => {
            named(node.map_or_else(|| plain(model, symbol), |node| node.name.to_string()), item, depth, ports)
        }
    }
}

fn named(name: String, item: &Item, depth: usize, ports: &mut Vec<(String, Item)>) -> Option<()> {
    if ports.len() >= MAX_ELEMENTS || depth >= MAX_DEPTH {
        return None;
    }
    match item {
        Item::Tuple(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| named(format!("{name}_{i}"), item, depth + 1, ports)),
        Item::Monad | Item::None => Some(()),
        item => {
            ports.push((name, item.clone()));
            Some(())
        }
    }
}

/// The node whose value this is: `Depend` only orders.
fn through_depends<'m>(model: &'m Model, mut symbol: &'m str) -> &'m str {
    for _ in 0..MAX_ELEMENTS {
        match model.node(symbol) {
            Some(node) if node.op_type() == Some("Depend") => match node.inputs.first() {
                Some(input) => symbol = input,
                None => break,
            },
            _ => break,
        }
    }
    symbol
}

fn is_tuple(node: &Node) -> bool {
    matches!(node.op_type(), Some("MakeTuple" | "make_list" | "MakeList" | "make_tuple"))
}

/// Name of an input or parameter for users.
fn plain(model: &Model, symbol: &str) -> String {
    let input =
        model.graph.inputs.iter().find(|input| &*input.symbol == symbol).map(|input| input.name.to_string());
    let parameter = || model.parameter(symbol).map(|parameter| parameter.name.to_string());
    input.or_else(parameter).unwrap_or_else(|| symbol.to_owned())
}
