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
    /// An absent optional argument, or a result that nobody uses.
    None,
    /// An element type.
    DType(DType),
    /// Several of them.
    Tuple(Arc<[Item]>),
    /// A point in a chain of effects; which one, its [`Binding`] says.
    Monad,
    /// A weight by reference: what it holds depends on when it is read.
    Parameter(usize),
    /// A function of the model, with its leading arguments.
    Function(Arc<Closure>),
    /// Something that inference does not need, by kind.
    Foreign(&'static str),
}

/// A function with leading arguments bound.
#[derive(Debug)]
pub(super) struct Closure {
    /// Number of the graph in the model.
    pub(super) graph: usize,
    /// Arguments bound so far.
    pub(super) bound: Vec<Binding>,
}

/// An item, and the last write to any parameter that came before it.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) item: Item,
    pub(super) time: u64,
}

impl Item {
    pub(super) fn tuple(items: impl IntoIterator<Item = Item>) -> Item {
        Item::Tuple(items.into_iter().collect())
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
            Item::Function(_) => "function",
            Item::Foreign(kind) => kind,
        }
    }
}

/// Most elements of a flattened tuple, so that nested tuples cannot take memory out of proportion.
pub(super) const MAX_ELEMENTS: usize = 1 << 16;
