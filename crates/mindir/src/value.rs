use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mslite_tensor::{DType, Tensor};

use crate::{DataType, Error, Result, Symbol};

/// A constant, or the value of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing; an absent optional argument.
    None,
    /// A boolean.
    Bool(bool),
    /// A signed integer and its declared width.
    Int(i64, DataType),
    /// An unsigned integer and its declared width.
    Uint(u64, DataType),
    /// A floating-point number and its declared width.
    Float(f64, DataType),
    /// Text.
    Str(Arc<str>),
    /// A sequence of fixed length.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// Values by key, in file order.
    Dict(Vec<(Arc<str>, Value)>),
    /// A tensor whose bytes are a window of the file.
    Tensor(Tensor),
    /// A tensor of an element type that [`Tensor`] does not have: text or 4-bit values.
    RawTensor(RawTensor),
    /// A type: of a number, or of a tensor of such numbers.
    Type {
        /// Element type.
        dtype: DataType,
        /// Whether it is written as "tensor of".
        tensor: bool,
    },
    /// The start of a chain of side effects.
    Monad(Monad),
    /// A function, primitive or partial application, by symbol.
    Function(Symbol),
    /// Quantisation records.
    Quantization(Vec<QuantParam>),
    /// A name of the front end's: a Python class, module or object.
    Object {
        /// What it names.
        kind: ObjectKind,
        /// The name.
        name: Arc<str>,
    },
    /// A function that computes shapes or other small values.
    Functor(Functor),
    /// A computation on scalars.
    ScalarGraph(ScalarGraph),
    /// A value that inference does not need (whole graphs, complex numbers, bytes that are no text): the
    /// `AttributeProto` as it was.
    Opaque {
        /// Number of the `AttributeType`.
        kind: i32,
        /// The encoded attribute.
        data: Bytes,
    },
}

/// What a [`Value::Object`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A class.
    Class,
    /// A module.
    Namespace,
    /// A member of a module.
    Symbol,
}

/// A function by name, with what it was bound to.
#[derive(Debug, Clone, PartialEq)]
pub struct Functor {
    /// Number of the `FunctorType`: 1 computes a shape, 2 anything.
    pub kind: i32,
    /// Name.
    pub name: Arc<str>,
    /// Bound values.
    pub values: Vec<Value>,
}

/// A computation on scalars, operands first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScalarGraph {
    /// Steps.
    pub nodes: Vec<ScalarNode>,
    /// Which inputs' extents the computation takes.
    pub input_shapes: Vec<u64>,
}

/// A step of a [`ScalarGraph`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScalarNode {
    /// Number of the operation.
    pub op: i64,
    /// Earlier steps that it takes.
    pub inputs: Vec<i64>,
    /// Constants.
    pub values: Vec<i64>,
}

/// What a chain of side effects orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Monad {
    /// Writes to memory (`U`).
    Memory,
    /// Input and output (`IO`).
    Io,
}

/// A tensor of any element type of the format: its bytes as they are in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    /// Element type.
    pub dtype: DataType,
    /// Extents.
    pub dims: Vec<usize>,
    /// Dense row-major bytes, a window of the file.
    pub data: Bytes,
}

/// How a tensor was quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantParam {
    /// `linear_quant` or `cluster_quant`.
    pub algorithm: Arc<str>,
    /// Lists such as `scale_list`, `zero_point_list`.
    pub attributes: Attributes,
}

impl Value {
    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if it is one of any width that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value, _) => Some(*value),
            Value::Uint(value, _) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number, if it is a floating-point number or an integer.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value, _) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is a tuple or a list.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::Tuple(elements) | Value::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The integers of a tuple or list of integers.
    pub fn as_ints(&self) -> Option<Vec<i64>> {
        self.elements()?.iter().map(Value::as_int).collect()
    }

    /// The numbers of a tuple or list of numbers.
    pub fn as_floats(&self) -> Option<Vec<f64>> {
        self.elements()?.iter().map(Value::as_float).collect()
    }

    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The element type, if it is a type that tensors can have.
    pub fn as_dtype(&self) -> Option<DType> {
        match self {
            Value::Type { dtype, .. } => dtype.dtype(),
            _ => None,
        }
    }

    /// One word for messages: "integer", "tuple".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "none",
            Value::Bool(_) => "boolean",
            Value::Int(..) | Value::Uint(..) => "integer",
            Value::Float(..) => "floating-point number",
            Value::Str(_) => "string",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dictionary",
            Value::Tensor(_) | Value::RawTensor(_) => "tensor",
            Value::Type { .. } => "type",
            Value::Monad(_) => "monad",
            Value::Function(_) => "function",
            Value::Quantization(_) => "quantisation record",
            Value::Object { .. } => "object of the front end",
            Value::Functor(_) => "functor",
            Value::ScalarGraph(_) => "scalar graph",
            Value::Opaque { .. } => "value of another kind",
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value, DataType::Int64)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Value::Float(value.into(), DataType::Float32)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(text.into())
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Value::Tensor(tensor)
    }
}

/// A tuple.
impl<V: Into<Value> + Clone> From<&[V]> for Value {
    fn from(values: &[V]) -> Self {
        Value::Tuple(values.iter().cloned().map(Into::into).collect())
    }
}

/// Attributes by name. They are equal whoever owns them.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Whose attributes they are, for messages.
    owner: Arc<str>,
    values: BTreeMap<Arc<str>, Value>,
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl Attributes {
    /// Attributes of an owner (an operator type), which errors name.
    pub fn new(owner: impl Into<Arc<str>>, values: impl IntoIterator<Item = (Arc<str>, Value)>) -> Self {
        Attributes { owner: owner.into(), values: values.into_iter().collect() }
    }

    pub(crate) fn owned_by(self, owner: &Arc<str>) -> Self {
        Attributes { owner: owner.clone(), ..self }
    }

    /// The value of an attribute, if there is one.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (&**name, value))
    }

    /// Number of attributes.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`Error::Attribute`] when it is absent or of another type; so for all of these.
    pub fn bool(&self, name: &str) -> Result<bool> {
        self.required(name, "a boolean", Value::as_bool)
    }

    /// An integer of any width.
    ///
    /// # Errors
    /// As [`Attributes::bool`].
    pub fn int(&self, name: &str) -> Result<i64> {
        self.required(name, "an integer", Value::as_int)
    }

    /// A number; integers are converted.
    ///
    /// # Errors
    /// As [`Attributes::bool`].
    pub fn float(&self, name: &str) -> Result<f64> {
        self.required(name, "a number", Value::as_float)
    }

    /// Text.
    ///
    /// # Errors
    /// As [`Attributes::bool`].
    pub fn string(&self, name: &str) -> Result<&str> {
        self.required(name, "a string", Value::as_str)
    }

    /// Integers of a tuple or list.
    ///
    /// # Errors
    /// As [`Attributes::bool`].
    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        self.required(name, "a tuple or list of integers", Value::as_ints)
    }

    /// Numbers of a tuple or list.
    ///
    /// # Errors
    /// As [`Attributes::bool`].
    pub fn floats(&self, name: &str) -> Result<Vec<f64>> {
        self.required(name, "a tuple or list of numbers", Value::as_floats)
    }

    /// An element type.
    ///
    /// # Errors
    /// As [`Attributes::bool`].
    pub fn dtype(&self, name: &str) -> Result<DType> {
        self.required(name, "an element type", Value::as_dtype)
    }

    /// A boolean, or `default` when it is absent.
    ///
    /// # Errors
    /// [`Error::Attribute`] when it is of another type; so for all that take a default.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool> {
        self.optional(name, default, Attributes::bool)
    }

    /// An integer, or `default` when it is absent.
    ///
    /// # Errors
    /// As [`Attributes::bool_or`].
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        self.optional(name, default, Attributes::int)
    }

    /// A number, or `default` when it is absent.
    ///
    /// # Errors
    /// As [`Attributes::bool_or`].
    pub fn float_or(&self, name: &str, default: f64) -> Result<f64> {
        self.optional(name, default, Attributes::float)
    }

    /// Text, or `default` when it is absent.
    ///
    /// # Errors
    /// As [`Attributes::bool_or`].
    pub fn string_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        if self.value(name).is_none() { Ok(default) } else { self.string(name) }
    }

    fn optional<T>(&self, name: &str, default: T, read: impl Fn(&Self, &str) -> Result<T>) -> Result<T> {
        if self.value(name).is_none() { Ok(default) } else { read(self, name) }
    }

    fn required<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let reason = match self.value(name) {
            None => format!("missing; expected {expected}"),
            Some(value) => match read(value) {
                Some(read) => return Ok(read),
                None => format!("expected {expected}, found a {}", value.kind()),
            },
        };
        Err(Error::Attribute { owner: self.owner.to_string(), name: name.to_owned(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Attributes {
        let ints = |n: &[i64]| n.iter().map(|&n| Value::Int(n, DataType::Int64)).collect();
        let values = [
            ("axis", Value::Int(-1, DataType::Int64)),
            ("pad", Value::Tuple(ints(&[1, 2]))),
            ("huge", Value::Uint(u64::MAX, DataType::Uint64)),
            ("group", Value::Str("hccl_world_group".into())),
        ];
        let values = values.into_iter().map(|(name, value)| (Arc::from(name), value));
        Attributes::new("AllReduce", values)
    }

    #[test]
    fn typed_getters_convert_what_fits() {
        let attributes = attributes();
        assert_eq!(attributes.int("axis").unwrap(), -1);
        assert_eq!(attributes.float("axis").unwrap(), -1.0);
        assert_eq!(attributes.ints("pad").unwrap(), [1, 2]);
        assert_eq!(attributes.string_or("group", "x").unwrap(), "hccl_world_group");
        assert_eq!(attributes.int_or("root", 3).unwrap(), 3);
    }

    #[test]
    fn errors_name_owner_attribute_and_both_types() {
        let attributes = attributes();
        let message = |e: Error| e.to_string();
        assert_eq!(
            message(attributes.int("root").unwrap_err()),
            "AllReduce: attribute \"root\": missing; expected an integer"
        );
        assert_eq!(
            message(attributes.int_or("group", 1).unwrap_err()),
            "AllReduce: attribute \"group\": expected an integer, found a string"
        );
        assert!(attributes.int("huge").is_err());
        assert!(attributes.ints("axis").is_err());
    }
}
