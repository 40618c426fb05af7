use mslite_mindir::{DataType, PrimitiveKind, Symbol, Value};
use mslite_tensor::Dim;

use crate::Result;
use crate::export::flow::of;
use crate::export::writer::{Arg, Item, Writer};
use crate::ir::op::{Attribute, Opaque};

/// The primitive as it was: arguments that are no tensors stand between the operands again.
pub(in crate::export) fn write(
    w: &mut Writer,
    op: &Opaque,
    x: &[Item],
    used: &[bool],
) -> Result<Vec<Option<Symbol>>> {
    let attributes: Vec<(&str, Value)> = op
        .attributes
        .iter()
        .filter(|(name, _)| position(name).is_none())
        .map(|(name, attribute)| (name.as_str(), value(attribute)))
        .collect();
    let mut args = arguments(w, op, x)?;
    let mut primitive = w.primitive(&op.primitive, &attributes);
    if op.attributes.keys().any(|name| position(name).is_some()) {
        primitive.kind = PrimitiveKind::Function;
    }
    let has_monad = primitive.has_side_effect();
    if has_monad {
        args.push(w.monad().into());
    }
    let result = w.call(&primitive, &args, Some(of(&op.results)));
    if has_monad {
        w.update_state(result.clone());
    }
    if op.effect {
        w.must_happen(result.clone());
    }
    Ok(match op.results.len() {
        1 => vec![Some(result)],
        _ => w.elements(&result, &op.results, used),
    })
}

/// Which argument an attribute stands for, if it does.
fn position(name: &str) -> Option<usize> {
    name.strip_prefix("arg")?.parse().ok()
}

fn arguments(w: &mut Writer, op: &Opaque, x: &[Item]) -> Result<Vec<Arg>> {
    let mut operands = x.iter();
    let stated = op.attributes.keys().filter_map(|name| position(name)).count();
    let mut args = Vec::new();
    for n in 0..stated + x.len() {
        match op.attributes.get(&format!("arg{n}")) {
            Some(attribute) => args.push(argument(w, attribute, &mut operands)?),
            None => match operands.next() {
                Some(item) => args.push(item.into()),
                None => break,
            },
        }
    }
    match operands.next() {
        None => Ok(args),
        Some(_) => Err(w.unsupported(&op.primitive, "it has more operands than arguments")),
    }
}

fn argument<'x>(
    w: &mut Writer,
    attribute: &Attribute,
    operands: &mut impl Iterator<Item = &'x Item>,
) -> Result<Arg> {
    let elements = match attribute {
        Attribute::List(elements) => elements,
        Attribute::Text(text) => return text_or_extent(w, text),
        other => return Ok(Arg::Value(value(other))),
    };
    if !elements.iter().any(|element| matches!(element, Attribute::Text(_) | Attribute::List(_))) {
        return Ok(Arg::Value(value(attribute)));
    }
    let mut symbols = Vec::with_capacity(elements.len());
    for element in elements {
        let arg = match element {
            Attribute::Text(text) if text == "tensor" => {
                operands.next().map_or(Arg::Value(Value::None), Arg::from)
            }
            element => argument(w, element, operands)?,
        };
        symbols.push(w.arg(&arg));
    }
    Ok(w.make_tuple(symbols, None).into())
}

/// An extent that is not a number appears as text.
fn text_or_extent(w: &mut Writer, text: &str) -> Result<Arg> {
    match text.parse::<Dim>() {
        Ok(dim) if dim.as_fixed().is_none() && w.extents.knows(&dim) => w.extent(&dim).map(Arg::Symbol),
        _ => Ok(text.into()),
    }
}

fn value(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::None => Value::None,
        Attribute::Bool(value) => (*value).into(),
        Attribute::Int(value) => (*value).into(),
        Attribute::Float(value) => Value::Float(*value, DataType::Float32),
        Attribute::Text(text) => text.as_str().into(),
        Attribute::DType(dtype) => Value::Type { dtype: DataType::from(*dtype), tensor: false },
        Attribute::List(elements) => Value::Tuple(elements.iter().map(value).collect()),
    }
}
