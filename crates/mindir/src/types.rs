use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mslite_tensor::{Dim, Shape, TensorSpec};

use crate::{DataType, Monad, Symbol};

/// Type of a value as the file states it.
///
/// Stored types of nodes are hints: the Lite converter writes rank 0 for what it could not infer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A number.
    Scalar(DataType),
    /// Text.
    Str,
    /// Nothing.
    None,
    /// State of a chain of side effects.
    Monad(Monad),
    /// A tuple.
    Tuple(SequenceType),
    /// A list.
    List(SequenceType),
    /// A function, primitive or partial application; the symbol may be that of the node itself.
    Function(Symbol),
    /// One of several functions.
    Union(Vec<Type>),
    /// A sparse tensor or hash map, by its parts.
    Composite {
        /// Which.
        kind: CompositeKind,
        /// Types of its parts.
        parts: Vec<Type>,
    },
    /// A type that inference does not need: the `AttributeProto` as it was.
    Opaque {
        /// Number of the `AttributeType`.
        kind: i32,
        /// The encoded attribute.
        data: Bytes,
    },
    /// In files of releases 1.x, any other type, by the text that names it.
    Other(Arc<str>),
}

/// Element type and extents of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DataType,
    /// Extents as the file has them: -1 is an unknown extent, a single -2 an unknown rank.
    pub dims: Vec<i64>,
    /// Plain name of the parameter that this refers to, if it is a reference.
    pub ref_key: Option<Symbol>,
    /// Name for users, in files of the Lite converter; may be empty.
    pub name: Arc<str>,
}

/// Elements of a tuple or list type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceType {
    /// Types of the elements; of a sequence of dynamic length, of those known.
    pub elements: Vec<Type>,
    /// Whether the length is known only at run time.
    pub dynamic_len: bool,
    /// Type of every element when the length is dynamic.
    pub element: Option<Box<Type>>,
}

/// Kinds of values made of several tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompositeKind {
    /// Compressed rows.
    Csr,
    /// Coordinates.
    Coo,
    /// Selected rows.
    Row,
    /// Hash map from keys to rows.
    Map,
}

impl fmt::Display for Type {
    /// `f32[-1, 16]`, `(i64, f32[2])`, as people read types.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(tensor) => write!(f, "{}{:?}", tensor.dtype, tensor.dims),
            Type::Scalar(dtype) => write!(f, "{dtype}"),
            Type::Str => f.write_str("string"),
            Type::None => f.write_str("none"),
            Type::Monad(_) => f.write_str("monad"),
            Type::Tuple(sequence) | Type::List(sequence) if sequence.dynamic_len => f.write_str("(...)"),
            Type::Tuple(sequence) | Type::List(sequence) => write_list(f, &sequence.elements, ["(", ")"]),
            Type::Function(symbol) => write!(f, "function {symbol}"),
            Type::Union(members) => write_list(f, members, ["one of (", ")"]),
            Type::Composite { kind, parts } => {
                write!(f, "{kind:?}")?;
                write_list(f, parts, ["(", ")"])
            }
            Type::Opaque { kind, .. } => write!(f, "type {kind}"),
            Type::Other(text) => f.write_str(text),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, types: &[Type], [open, close]: [&str; 2]) -> fmt::Result {
    f.write_str(open)?;
    for (i, ty) in types.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{ty}")?;
    }
    f.write_str(close)
}

impl Type {
    /// A tensor of this element type and these extents: -1 is an unknown extent, a single -2 an unknown rank.
    pub fn tensor(dtype: impl Into<DataType>, dims: impl Into<Vec<i64>>) -> Self {
        Type::Tensor(TensorType::new(dtype, dims))
    }

    /// A tuple of these types.
    pub fn tuple(elements: impl Into<Vec<Type>>) -> Self {
        Type::Tuple(SequenceType { elements: elements.into(), ..SequenceType::default() })
    }

    /// The tensor type, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The sequence, if it is a tuple or list.
    pub fn as_sequence(&self) -> Option<&SequenceType> {
        match self {
            Type::Tuple(sequence) | Type::List(sequence) => Some(sequence),
            _ => None,
        }
    }
}

impl TensorType {
    /// A tensor that is no reference.
    pub fn new(dtype: impl Into<DataType>, dims: impl Into<Vec<i64>>) -> Self {
        TensorType { dtype: dtype.into(), dims: dims.into(), ref_key: None, name: "".into() }
    }

    /// The shape; `symbol` gives the extent of each unknown axis (an [`Dim::symbol`], usually named after the
    /// tensor and the axis).
    pub fn shape(&self, mut symbol: impl FnMut(usize) -> Dim) -> Shape {
        if self.dims == [-2] {
            return Shape::UNRANKED;
        }
        let dim = |(axis, &extent): (usize, &i64)| {
            if extent < 0 { symbol(axis) } else { Dim::from(extent) }
        };
        Shape::ranked(self.dims.iter().enumerate().map(dim))
    }

    /// Element type and shape; `None` for element types that tensors do not have.
    pub fn spec(&self, symbol: impl FnMut(usize) -> Dim) -> Option<TensorSpec> {
        Some(TensorSpec::new(self.dtype.dtype()?, self.shape(symbol)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_extents_become_symbols_and_unknown_ranks_unranked() {
        let tensor = |dims: &[i64]| TensorType::new(DataType::Float16, dims);
        let symbol = |axis: usize| Dim::symbol(&format!("x{axis}"));
        assert_eq!(tensor(&[-1, 3, -1]).spec(symbol).unwrap().to_string(), "f16[x0, 3, x2]");
        assert_eq!(tensor(&[]).shape(symbol), Shape::scalar());
        assert_eq!(tensor(&[-2]).shape(symbol), Shape::UNRANKED);
    }
}
