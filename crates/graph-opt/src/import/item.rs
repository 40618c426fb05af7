use std::ops::Deref;
use std::sync::Arc;

use mslite_tensor::{DType, Dim};

use crate::ir::ValueId;

/// What a name of a MindIR model stands for.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// A tensor.
    Tensor(ValueId),
    /// An integer that is known, perhaps in terms of extents.
    Int(Dim),
    /// A float that is known.
    Float(f64),
    /// A truth value that is known.
    Bool(bool),
    /// Text.
    Text(Arc<str>),
    /// An absent optional argument.
    None,
    /// An element type.
    DType(DType),
    /// Several of them.
    Tuple(Arc<Items>),
    /// A point in a chain of effects; which one, its [`Binding`] says.
    Monad,
    /// A weight by reference: what it holds depends on when it is read.
    Parameter(usize),
    /// A function of the model, with its leading arguments.
    Function(Arc<Closure>),
    /// One of two functions, by a condition that is only known when the model runs.
    Choice(Arc<Choice>),
    /// Something that inference does not need, by kind.
    Foreign(&'static str),
}

/// Elements of a tuple.
#[derive(Debug)]
pub(super) struct Items {
    items: Box<[Item]>,
    depth: usize,
    len: usize,
}

impl Deref for Items {
    type Target = [Item];

    fn deref(&self) -> &[Item] {
        &self.items
    }
}

/// A function with leading arguments bound.
#[derive(Debug)]
pub(super) struct Closure {
    /// Number of the graph in the model.
    pub(super) graph: usize,
    /// Arguments bound so far.
    pub(super) bound: Vec<Binding>,
}

/// One of two functions.
#[derive(Debug)]
pub(super) struct Choice {
    /// A bool of rank 0.
    pub(super) condition: ValueId,
    /// What is called where it holds.
    pub(super) then: Item,
    /// What is called where it does not.
    pub(super) otherwise: Item,
}

/// An item, and the last write to any parameter that came before it.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) item: Item,
    pub(super) time: u64,
}

impl Item {
    /// A result that nobody uses, or that inference does not make.
    pub(super) const UNMADE: Item = Item::Foreign("result that inference does not make");

    pub(super) fn tuple(items: impl IntoIterator<Item = Item>) -> Item {
        let items: Box<[Item]> = items.into_iter().collect();
        let depth = 1 + items.iter().map(Item::depth).max().unwrap_or(0);
        let len = items.iter().fold(0usize, |len, item| len.saturating_add(item.len()));
        Item::Tuple(Arc::new(Items { items, depth, len }))
    }

    /// How deep tuples and closures nest in it.
    fn depth(&self) -> usize {
        match self {
            Item::Tuple(items) => items.depth,
            Item::Choice(choice) => 1 + choice.then.depth().max(choice.otherwise.depth()),
            Item::Function(closure) => {
                1 + closure.bound.iter().map(|binding| binding.item.depth()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Number of items when tuples are flattened.
    fn len(&self) -> usize {
        match self {
            Item::Tuple(items) => items.len,
            _ => 1,
        }
    }

    /// Whether walking and flattening it takes memory and stack in proportion.
    pub(super) fn is_reasonable(&self) -> bool {
        self.depth() <= MAX_DEPTH && self.len() <= MAX_ELEMENTS
    }

    pub(super) fn tensors(values: impl IntoIterator<Item = ValueId>) -> Item {
        Item::tuple(values.into_iter().map(Item::Tensor))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Item::None)
    }

    /// One word for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Item::Tensor(_) => "tensor",
            Item::Int(_) => "integer",
            Item::Float(_) => "float",
            Item::Bool(_) => "bool",
            Item::Text(_) => "text",
            Item::None => "nothing",
            Item::DType(_) => "element type",
            Item::Tuple(_) => "tuple",
            Item::Monad => "monad",
            Item::Parameter(_) => "parameter",
            Item::Function(_) | Item::Choice(_) => "function",
            Item::Foreign(kind) => kind,
        }
    }
}

/// Most elements of a flattened tuple, so that nested tuples cannot take memory out of proportion.
pub(super) const MAX_ELEMENTS: usize = 1 << 16;

/// Deepest nesting of tuples and closures.
pub(super) const MAX_DEPTH: usize = 128;
