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
    size: Size,
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
    size: Size,
}

impl Closure {
    pub(super) fn new(graph: usize, bound: Vec<Binding>) -> Self {
        let size = Size::around(bound.iter().map(|binding| &binding.item));
        Closure { graph, bound, size }
    }
}

/// How deep an item nests, and how many leaves it has: kept, since items share parts.
#[derive(Debug, Clone, Copy)]
struct Size {
    depth: usize,
    len: usize,
}

impl Size {
    fn around<'i>(items: impl Iterator<Item = &'i Item>) -> Self {
        items.map(Item::size).fold(Size { depth: 1, len: 1 }, |all, one| Size {
            depth: all.depth.max(1 + one.depth),
            len: all.len.saturating_add(one.len),
        })
    }
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
    size: Size,
}

impl Choice {
    pub(super) fn new(condition: ValueId, then: Item, otherwise: Item) -> Self {
        let size = Size::around([&then, &otherwise].into_iter());
        Choice { condition, then, otherwise, size }
    }
}

/// An item, and the last write to any parameter that came before it.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    pub(super) item: Item,
    pub(super) time: u64,
}

/// The last write that came before any of these.
pub(super) fn last(bindings: &[Binding]) -> u64 {
    bindings.iter().map(|binding| binding.time).max().unwrap_or(0)
}

impl Item {
    /// A result that nobody uses, or that inference does not make.
    pub(super) const UNMADE: Item = Item::Foreign("result that inference does not make");

    pub(super) fn tuple(items: impl IntoIterator<Item = Item>) -> Item {
        let items: Box<[Item]> = items.into_iter().collect();
        let size = Size::around(items.iter());
        Item::Tuple(Arc::new(Items { items, size }))
    }

    fn size(&self) -> Size {
        match self {
            Item::Tuple(items) => items.size,
            Item::Function(closure) => closure.size,
            Item::Choice(choice) => choice.size,
            _ => Size { depth: 0, len: 1 },
        }
    }

    /// Whether walking and flattening it takes memory and stack in proportion.
    pub(super) fn is_reasonable(&self) -> bool {
        let Size { depth, len } = self.size();
        depth <= MAX_DEPTH && len <= MAX_ELEMENTS
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
