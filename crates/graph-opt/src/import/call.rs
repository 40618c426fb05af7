//! The arguments of one primitive, whichever way the file has them.

use mslite_mindir::{Attributes, Type, Value, dtype_of_type_id};
use mslite_tensor::{DType, Dim};

use super::emit::Emitter;
use super::item::Item;
use super::known::{known_float, known_ints, tensor_ints};
use super::ports::Names;
use crate::ir::ValueId;
use crate::{Error, Result};

/// The application of a primitive.
///
/// Options are operands in files of feature level 2 and attributes before; an argument is looked for by position
/// and then by name, so that lowerings need not know.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) emit: &'a mut Emitter,
    pub(super) op_type: &'a str,
    /// Operands, without a trailing monad.
    pub(super) args: Vec<Item>,
    pub(super) attributes: &'a Attributes,
    /// Type of the result as the file states it: a hint.
    pub(super) ty: Option<&'a Type>,
    /// Which results are used, one bit each.
    pub(super) used: u64,
    pub(super) model_version: &'a str,
    /// Whether its place among other effects matters.
    pub(super) effect: bool,
    /// Which rank of the world this is, if it is known.
    pub(super) rank: Option<usize>,
    /// Names of extents that nobody knows.
    pub(super) symbols: &'a mut Names,
    /// Name of the node for users.
    pub(super) name: &'a str,
}

/// Position of an argument that is only ever an attribute.
pub(super) const ATTRIBUTE: usize = usize::MAX;

impl Call<'_> {
    /// Whether a result of a tuple is used.
    pub(super) fn uses(&self, result: usize) -> bool {
        result >= 64 || self.used >> result & 1 == 1
    }

    pub(super) fn unsupported(&self, reason: impl Into<String>) -> Error {
        self.emit.unsupported(self.op_type, reason)
    }

    pub(super) fn invalid(&self, reason: impl std::fmt::Display) -> Error {
        self.emit.invalid(format!("{}: {reason}", self.op_type))
    }

    /// An argument, `None` when it is absent.
    pub(super) fn arg(&mut self, position: usize, name: &str) -> Option<Item> {
        let item = match self.args.get(position) {
            Some(item) => item.clone(),
            None => self.attribute(name)?,
        };
        (!item.is_none()).then_some(item)
    }

    pub(super) fn attribute(&mut self, name: &str) -> Option<Item> {
        self.attributes.value(name).map(|value| value_item(value, self.emit))
    }

    fn mismatch(&self, name: &str, expected: &str, item: &Item) -> Error {
        match item {
            Item::Tensor(_) => self.unsupported(format!(
                "{name} must be {expected} known before the run, but is computed from data; \
                 export the model with it as a constant"
            )),
            _ => self.invalid(format!("{name} must be {expected}, not {}", item.kind())),
        }
    }

    fn missing(&self, name: &str) -> Error {
        self.invalid(format!("{name} is missing"))
    }

    /// A tensor operand, which must be there.
    pub(super) fn tensor(&mut self, position: usize, name: &str) -> Result<ValueId> {
        self.tensor_opt(position, name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn tensor_opt(&mut self, position: usize, name: &str) -> Result<Option<ValueId>> {
        let Some(item) = self.arg(position, name) else { return Ok(None) };
        match self.emit.tensor(&item)? {
            Some(x) => Ok(Some(x)),
            None => Err(self.mismatch(name, "a tensor", &item)),
        }
    }

    /// An optional operand as a tensor of a type.
    pub(super) fn tensor_of(&mut self, position: usize, name: &str, dtype: DType) -> Result<Option<ValueId>> {
        match self.arg(position, name) {
            Some(Item::Int(dim)) => self.emit.dim(&dim, dtype).map(Some),
            Some(Item::Float(value)) => self.emit.scalar(value, dtype).map(Some),
            _ => match self.tensor_opt(position, name)? {
                Some(x) => self.emit.cast(x, dtype).map(Some),
                None => Ok(None),
            },
        }
    }

    /// An integer that may be symbolic.
    pub(super) fn dim(&mut self, position: usize, name: &str) -> Result<Option<Dim>> {
        let Some(item) = self.arg(position, name) else { return Ok(None) };
        match self.bound_dims(&item)?.as_deref() {
            Some([dim]) => Ok(Some(dim.clone())),
            _ => self.known_dim(&item).map(Some).ok_or_else(|| self.mismatch(name, "an integer", &item)),
        }
    }

    /// An integer that is known before the run.
    fn known_dim(&self, item: &Item) -> Option<Dim> {
        match (item, self.item_dims(item).as_deref()) {
            (Item::Bool(value), _) => Some(Dim::from(i64::from(*value))),
            (_, Some([dim])) => Some(dim.clone()),
            _ => None,
        }
    }

    /// An integer.
    pub(super) fn int(&mut self, position: usize, name: &str) -> Result<Option<i64>> {
        let Some(item) = self.arg(position, name) else { return Ok(None) };
        let dim = self.known_dim(&item).ok_or_else(|| self.mismatch(name, "an integer", &item))?;
        dim.as_fixed().map(Some).ok_or_else(|| {
            self.unsupported(format!("{name} is {dim}, which must be a number; export with fixed shapes"))
        })
    }

    pub(super) fn int_or(&mut self, position: usize, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(position, name)?.unwrap_or(default))
    }

    pub(super) fn required_int(&mut self, position: usize, name: &str) -> Result<i64> {
        self.int(position, name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn float_or(&mut self, position: usize, name: &str, default: f64) -> Result<f64> {
        let Some(item) = self.arg(position, name) else { return Ok(default) };
        let value = match &item {
            Item::Float(value) => Some(*value),
            Item::Int(dim) => dim.as_fixed().map(|n| n as f64),
            Item::Bool(value) => Some(f64::from(u8::from(*value))),
            Item::Tensor(x) => known_float(self.emit.graph(), *x),
            _ => None,
        };
        value.ok_or_else(|| self.mismatch(name, "a number", &item))
    }

    pub(super) fn flag(&mut self, position: usize, name: &str) -> Result<bool> {
        Ok(self.bool_opt(position, name)?.unwrap_or(false))
    }

    pub(super) fn bool_opt(&mut self, position: usize, name: &str) -> Result<Option<bool>> {
        let Some(item) = self.arg(position, name) else { return Ok(None) };
        match &item {
            Item::Bool(value) => Ok(Some(*value)),
            _ => match self.known_dim(&item).and_then(|dim| dim.as_fixed()) {
                Some(n) => Ok(Some(n != 0)),
                None => Err(self.mismatch(name, "a truth value", &item)),
            },
        }
    }

    /// Integers that may be symbolic; a single one is a list of one.
    pub(super) fn dims(&mut self, position: usize, name: &str) -> Result<Option<Vec<Dim>>> {
        let Some(item) = self.arg(position, name) else { return Ok(None) };
        match self.bound_dims(&item)? {
            Some(dims) => Ok(Some(dims)),
            None => Err(self.mismatch(name, "integers", &item)),
        }
    }

    /// The integers that an item stands for; those that data give are read when the model runs.
    fn bound_dims(&mut self, item: &Item) -> Result<Option<Vec<Dim>>> {
        if let Some(dims) = self.item_dims(item) {
            return Ok(Some(dims));
        }
        match item {
            Item::Tensor(x) => self.emit.bound_ints(*x),
            Item::Tuple(items) => {
                let mut dims = Vec::with_capacity(items.len());
                for item in items.iter() {
                    match (item, self.bound_dims(item)?.as_deref()) {
                        (Item::Int(_) | Item::Tensor(_), Some([dim])) => dims.push(dim.clone()),
                        _ => return Ok(None),
                    }
                }
                Ok(Some(dims))
            }
            _ => Ok(None),
        }
    }

    /// The integers that an item stands for.
    pub(super) fn item_dims(&self, item: &Item) -> Option<Vec<Dim>> {
        match item {
            Item::Int(dim) => Some(vec![dim.clone()]),
            Item::Tensor(x) => known_ints(self.emit.graph(), *x),
            Item::Tuple(items) => {
                let one = |item: &Item| match item {
                    Item::Int(dim) => Some(dim.clone()),
                    Item::Tensor(x) => match known_ints(self.emit.graph(), *x)?.as_slice() {
                        [dim] => Some(dim.clone()),
                        _ => None,
                    },
                    _ => None,
                };
                items.iter().map(one).collect()
            }
            _ => None,
        }
    }

    pub(super) fn required_dims(&mut self, position: usize, name: &str) -> Result<Vec<Dim>> {
        self.dims(position, name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn ints(&mut self, position: usize, name: &str) -> Result<Option<Vec<i64>>> {
        let Some(item) = self.arg(position, name) else { return Ok(None) };
        let dims = self.item_dims(&item).ok_or_else(|| self.mismatch(name, "integers", &item))?;
        let ints: Option<Vec<i64>> = dims.iter().map(Dim::as_fixed).collect();
        ints.map(Some)
            .ok_or_else(|| self.unsupported(format!("{name} must be numbers; export with fixed shapes")))
    }

    pub(super) fn required_ints(&mut self, position: usize, name: &str) -> Result<Vec<i64>> {
        self.ints(position, name)?.ok_or_else(|| self.missing(name))
    }

    /// A number that must not be negative.
    pub(super) fn to_usize(&self, n: i64, name: &str) -> Result<usize> {
        usize::try_from(n).map_err(|_| self.invalid(format!("{name} is {n}")))
    }

    /// An axis of a tensor, counted from 0.
    pub(super) fn axis(&mut self, position: usize, name: &str, default: i64, rank: usize) -> Result<usize> {
        let axis = self.int_or(position, name, default)?;
        self.emit.axis(axis, rank)
    }

    /// Axes of a tensor, counted from 0, sorted, without repeats; `None` when absent or empty.
    pub(super) fn axes(&mut self, position: usize, name: &str, rank: usize) -> Result<Option<Vec<usize>>> {
        let Some(axes) = self.ints(position, name)?.filter(|axes| !axes.is_empty()) else { return Ok(None) };
        let axes: Result<Vec<usize>> = axes.into_iter().map(|axis| self.emit.axis(axis, rank)).collect();
        let mut axes = axes?;
        axes.sort_unstable();
        axes.dedup();
        Ok(Some(axes))
    }

    /// An element type, given as such or by the number of its `TypeId`.
    pub(super) fn dtype(&mut self, position: usize, name: &str) -> Result<Option<DType>> {
        match self.arg(position, name) {
            None => Ok(None),
            Some(Item::DType(dtype)) => Ok(Some(dtype)),
            Some(_) => {
                let id = self.required_int(position, name)?;
                dtype_of_type_id(id, self.model_version).map(Some).ok_or_else(|| {
                    self.unsupported(format!("{name} is type {id}, which tensors do not have"))
                })
            }
        }
    }

    /// An enumeration, given by name (in any case) or number; `names` is in the order of the numbers.
    pub(super) fn choice(
        &mut self,
        position: usize,
        name: &str,
        names: &[&str],
        default: usize,
    ) -> Result<usize> {
        match self.arg(position, name) {
            None => Ok(default),
            Some(Item::Text(text)) => names
                .iter()
                .position(|n| n.eq_ignore_ascii_case(&text))
                .ok_or_else(|| self.unsupported(format!("{name} is {text:?}, known are {names:?}"))),
            Some(_) => {
                let n = self.required_int(position, name)?;
                usize::try_from(n)
                    .ok()
                    .filter(|&n| n < names.len())
                    .ok_or_else(|| self.unsupported(format!("{name} is {n}, known are {names:?} from 0")))
            }
        }
    }

    /// The tensors of a tuple argument, or all operands when they are given one by one.
    pub(super) fn tensor_list(&mut self) -> Result<Vec<ValueId>> {
        let items: Vec<Item> = match self.args.first() {
            Some(Item::Tuple(items)) => items.to_vec(),
            _ => self.args.clone(),
        };
        let mut tensors = Vec::with_capacity(items.len());
        for item in &items {
            match self.emit.tensor(item)? {
                Some(x) => tensors.push(x),
                None => return Err(self.mismatch("an operand", "a tensor", item)),
            }
        }
        if tensors.is_empty() { Err(self.missing("a tensor")) } else { Ok(tensors) }
    }

    /// Element type of the n-th result as the file states it.
    pub(super) fn stated_dtype(&self, result: usize) -> Option<DType> {
        let ty = match self.ty? {
            Type::Tuple(sequence) | Type::List(sequence) => sequence.elements.get(result)?,
            ty if result == 0 => ty,
            _ => return None,
        };
        ty.as_tensor()?.dtype.dtype()
    }
}

/// A constant or attribute as an item.
pub(super) fn value_item(value: &Value, emit: &mut Emitter) -> Item {
    match value {
        Value::None => Item::None,
        Value::Bool(value) => Item::Bool(*value),
        Value::Int(..) | Value::Uint(..) => match value.as_int() {
            Some(n) => Item::Int(Dim::from(n)),
            None => Item::Foreign("integer beyond 64 bits"),
        },
        Value::Float(value, _) => Item::Float(*value),
        Value::Str(text) => Item::Text(text.clone()),
        Value::Tuple(values) | Value::List(values) => {
            Item::tuple(values.iter().map(|value| value_item(value, emit)))
        }
        Value::Tensor(tensor) => Item::Tensor(emit.builder.constant("", tensor.clone())),
        Value::Type { .. } => value.as_dtype().map_or(Item::Foreign("type"), Item::DType),
        Value::Monad(_) => Item::Monad,
        other => Item::Foreign(other.kind()),
    }
}

/// The integers of a constant or attribute.
pub(super) fn value_ints(value: &Value) -> Option<Vec<i64>> {
    match value {
        Value::Tensor(tensor) => tensor_ints(tensor),
        Value::Int(..) | Value::Uint(..) => value.as_int().map(|n| vec![n]),
        _ => value.as_ints(),
    }
}
