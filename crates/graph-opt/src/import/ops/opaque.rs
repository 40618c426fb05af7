//! Primitives that are carried verbatim.

use std::collections::BTreeMap;

use mslite_mindir::{Type, Value};
use mslite_tensor::{Shape, TensorSpec};

use crate::Result;
use crate::import::call::Call;
use crate::import::item::{Item, MAX_ELEMENTS};
use crate::import::ports::symbol;
use crate::ir::ValueId;
use crate::ir::op::{Attribute, Op, Opaque};

/// Attributes that say nothing about the computation.
const NOISE: &[&str] =
    &["input_names", "output_names", "is_load", "primitive_function", "in_strategy", "gen_strategy"];

pub(in crate::import) fn lower(call: &mut Call) -> Result<Item> {
    let mut attributes: BTreeMap<String, Attribute> = call
        .attributes
        .iter()
        .filter(|(name, _)| !NOISE.contains(name))
        .filter_map(|(name, value)| Some((name.to_owned(), attribute(value)?)))
        .collect();
    let mut operands = Vec::new();
    for (n, arg) in call.args.iter().enumerate() {
        if let Some(attribute) = argument(arg, &mut operands) {
            attributes.insert(format!("arg{n}"), attribute);
        }
    }
    let Some(ty) = call.ty else {
        return Err(
            call.unsupported("it is not known here, and the model does not state the type of its result")
        );
    };
    let mut results = Vec::new();
    collect_specs(call, ty, &mut results)?;
    // Exchanges with other ranks name a group; they must stay in order.
    let effect = call.effect || attributes.contains_key("group");
    let opaque = Opaque { primitive: call.op_type.into(), attributes, results, effect };
    let mut values = call.emit.push(Op::Opaque(opaque), &operands)?.into_iter();
    Ok(as_stated(ty, &mut values))
}

/// What appears as an attribute in place of an argument; tensors become operands. In a sequence of tensors each
/// appears as the text `tensor`.
fn argument(item: &Item, operands: &mut Vec<ValueId>) -> Option<Attribute> {
    match item {
        Item::Tensor(x) => {
            operands.push(*x);
            None
        }
        Item::Tuple(items) => {
            let element =
                |item: &Item| argument(item, operands).unwrap_or(Attribute::Text("tensor".to_owned()));
            Some(Attribute::List(items.iter().take(MAX_ELEMENTS).map(element).collect()))
        }
        Item::Int(dim) => {
            Some(dim.as_fixed().map_or_else(|| Attribute::Text(dim.to_string()), Attribute::Int))
        }
        Item::Float(value) => Some(Attribute::Float(*value)),
        Item::Bool(value) => Some(Attribute::Bool(*value)),
        Item::Text(text) => Some(Attribute::Text(text.to_string())),
        Item::DType(dtype) => Some(Attribute::DType(*dtype)),
        _ => Some(Attribute::None),
    }
}

fn attribute(value: &Value) -> Option<Attribute> {
    Some(match value {
        Value::None => Attribute::None,
        Value::Bool(value) => Attribute::Bool(*value),
        Value::Int(..) | Value::Uint(..) => Attribute::Int(value.as_int()?),
        Value::Float(value, _) => Attribute::Float(*value),
        Value::Str(text) => Attribute::Text(text.to_string()),
        Value::Tuple(values) | Value::List(values) => {
            Attribute::List(values.iter().filter_map(attribute).collect())
        }
        Value::Type { .. } => Attribute::DType(value.as_dtype()?),
        _ => return None,
    })
}

fn collect_specs(call: &mut Call, ty: &Type, specs: &mut Vec<TensorSpec>) -> Result<()> {
    let what = |dtype: &dyn std::fmt::Display| format!("its result holds {dtype}, which tensors do not have");
    match ty {
        Type::Tensor(tensor) => {
            let result = specs.len();
            let (symbols, name) = (&mut *call.symbols, call.name);
            let spec = tensor.spec(|axis| symbol(symbols, &format!("{name}_{result}"), axis));
            specs.push(spec.ok_or_else(|| call.unsupported(what(&tensor.dtype)))?);
        }
        Type::Scalar(dtype) => {
            let dtype = dtype.dtype().ok_or_else(|| call.unsupported(what(dtype)))?;
            specs.push(TensorSpec::new(dtype, Shape::scalar()));
        }
        Type::Tuple(sequence) | Type::List(sequence) => {
            if sequence.dynamic_len || specs.len() + sequence.elements.len() > MAX_ELEMENTS {
                return Err(call.unsupported("its result is a sequence of unknown length"));
            }
            for element in &sequence.elements {
                collect_specs(call, element, specs)?;
            }
        }
        Type::None | Type::Monad(_) => {}
        _ => return Err(call.unsupported("its result is no tensor")),
    }
    Ok(())
}

/// The results in the form that the model states.
fn as_stated(ty: &Type, values: &mut impl Iterator<Item = ValueId>) -> Item {
    match ty {
        Type::Tuple(sequence) | Type::List(sequence) => Item::tuple(
            sequence.elements.iter().map(|element| as_stated(element, values)).collect::<Vec<_>>(),
        ),
        Type::None => Item::None,
        Type::Monad(_) => Item::Monad,
        _ => values.next().map_or(Item::None, Item::Tensor),
    }
}
