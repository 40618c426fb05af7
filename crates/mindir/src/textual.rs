//! The textual encoding of attributes in files of releases 1.x: `ref_attr_name` says how to read the others.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::attribute::{opaque, scalar, tensor_type, tensor_value};
use crate::place::Place;
use crate::proto::{AttributeProto, TensorProto};
use crate::{Monad, Result, SequenceType, TensorType, Type, Value};

const MAX_DEPTH: usize = 100;

/// What a form spells: a name, or a sequence of such.
#[derive(Debug, PartialEq)]
enum Outline<'a> {
    Name(&'a str),
    Sequence { list: bool, items: Vec<Outline<'a>> },
}

/// The value of an attribute in the given form, such as `scalar:Tuple[value1,value2,],`.
pub(crate) fn value(place: &Place<'_>, proto: &AttributeProto, form: &str) -> Result<Value> {
    match form.split_once(':').unwrap_or((form, "")) {
        ("none", _) => Ok(Value::None),
        ("Monad", "UMonad") => Ok(Value::Monad(Monad::Memory)),
        ("Monad", "IOMonad") => Ok(Value::Monad(Monad::Io)),
        ("type", name) => dtype(place, proto, name),
        ("scalar" | "tensor", text) => match &*outline(place, text)? {
            [Outline::Name(_)] => single(place, proto),
            [sequence] => Pools { place, proto, used: HashSet::new() }.value(sequence),
            _ => Err(place.invalid(format!("cannot read the attribute's form {form:?}"))),
        },
        _ => Ok(opaque(place, proto.kind.unwrap_or(0))),
    }
}

/// The type of an attribute in the given form, such as `shape:Tuple[shape1,shape2,],`.
pub(crate) fn ty(place: &Place<'_>, proto: &AttributeProto, form: &str) -> Result<Type> {
    let Some(text) = form.strip_prefix("shape:") else {
        return Err(place.invalid(format!("cannot read the type's form {form:?}")));
    };
    let mut tensors = HashMap::new();
    for (i, bytes) in proto.tensors.iter().enumerate() {
        let place = place.entry("tensors", i, bytes);
        let tensor: TensorProto = place.decode()?;
        let name = tensor.name.clone().unwrap_or_default();
        let ty = tensor_type(&place, &tensor)?;
        tensors.insert(name, Type::Tensor(TensorType { name: "".into(), ..ty }));
    }
    let mut items = outline(place, text)?;
    match items.len() {
        1 => Ok(outlined_type(&items.remove(0), &mut tensors)),
        _ => Ok(outlined_type(&Outline::Sequence { list: false, items }, &mut tensors)),
    }
}

/// Takes each tensor out of the map, so that a form cannot multiply it.
fn outlined_type(outline: &Outline<'_>, tensors: &mut HashMap<Bytes, Type>) -> Type {
    match outline {
        Outline::Name(name) => match (tensors.remove(name.as_bytes()), *name) {
            (Some(ty), _) => ty,
            (None, "UMonad" | "UMonadType") => Type::Monad(Monad::Memory),
            (None, "IOMonad" | "IOMonadType") => Type::Monad(Monad::Io),
            (None, name) => Type::Other(name.into()),
        },
        Outline::Sequence { list, items } => {
            let elements = items.iter().map(|item| outlined_type(item, tensors)).collect();
            let sequence = SequenceType { elements, ..SequenceType::default() };
            if *list { Type::List(sequence) } else { Type::Tuple(sequence) }
        }
    }
}

fn dtype(place: &Place<'_>, proto: &AttributeProto, name: &str) -> Result<Value> {
    let [tensor, ..] = &*proto.tensors else {
        return Err(place.invalid("the type attribute holds no tensor"));
    };
    let place = place.entry("tensors", 0, tensor);
    let dtype = crate::attribute::data_type(&place, &place.decode()?)?;
    Ok(Value::Type { dtype, tensor: name.starts_with("tensor") })
}

fn single(place: &Place<'_>, proto: &AttributeProto) -> Result<Value> {
    match &*proto.tensors {
        [] => scalar(place, proto, None),
        [tensor, ..] => tensor_value(&place.entry("tensors", 0, tensor)),
    }
}

/// The flat lists from which the names of a sequence take their values, each entry once.
struct Pools<'a> {
    place: &'a Place<'a>,
    proto: &'a AttributeProto,
    used: HashSet<usize>,
}

impl Pools<'_> {
    fn value(&mut self, outline: &Outline<'_>) -> Result<Value> {
        match outline {
            Outline::Name("none" | "None") => Ok(Value::None),
            Outline::Name(name) => self.named(name),
            Outline::Sequence { list, items } => {
                let values = items.iter().map(|item| self.value(item)).collect::<Result<_>>()?;
                Ok(if *list { Value::List(values) } else { Value::Tuple(values) })
            }
        }
    }

    fn named(&mut self, name: &str) -> Result<Value> {
        let number = name.strip_prefix("value").and_then(|number| number.parse::<usize>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        match index.filter(|&index| self.used.insert(index)) {
            Some(index) => self.entry(index),
            None => Err(self.place.invalid(format!("{name:?} names no entry of a sequence, or one twice"))),
        }
    }

    fn entry(&self, index: usize) -> Result<Value> {
        let proto = self.proto;
        if let Some(tensor) = proto.tensors.get(index) {
            return tensor_value(&self.place.entry("tensors", index, tensor));
        }
        let lengths = [proto.ints.len(), proto.floats.len(), proto.doubles.len(), proto.strings.len()];
        if lengths.into_iter().all(|length| length <= index) {
            return Err(self.place.invalid(format!("the sequence has no entry {}", index + 1)));
        }
        match scalar(self.place, proto, Some(index))? {
            // It would hold the whole attribute, once for each entry.
            Value::Opaque { kind, .. } => {
                Err(self.place.unsupported(format!("a sequence of values of type {kind}")))
            }
            value => Ok(value),
        }
    }
}

/// Reads `Tuple[a,b,],` and the like: names and sequences, each followed by a comma that may be missing.
fn outline<'a>(place: &Place<'_>, text: &'a str) -> Result<Vec<Outline<'a>>> {
    let mut rest = text;
    let items = items(&mut rest, 0).filter(|_| rest.is_empty());
    items.ok_or_else(|| place.invalid(format!("cannot read the attribute's form {text:?}")))
}

fn items<'a>(rest: &mut &'a str, depth: usize) -> Option<Vec<Outline<'a>>> {
    let mut items = Vec::new();
    while !rest.is_empty() && !rest.starts_with(']') {
        items.push(item(rest, depth)?);
        *rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(items)
}

fn item<'a>(rest: &mut &'a str, depth: usize) -> Option<Outline<'a>> {
    let end = rest.find([',', '[', ']']).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    let Some(inside) = tail.strip_prefix('[') else {
        *rest = tail;
        return Some(Outline::Name(name)).filter(|_| !name.is_empty());
    };
    if depth == MAX_DEPTH || !matches!(name, "Tuple" | "List") {
        return None;
    }
    *rest = inside;
    let items = items(rest, depth + 1)?;
    *rest = rest.strip_prefix(']')?;
    Some(Outline::Sequence { list: name == "List", items })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use prost::Message;

    use super::*;
    use crate::DataType;
    use crate::place::Source;
    use crate::proto::kind;

    fn read(proto: &AttributeProto, form: &str) -> Result<Value> {
        let bytes = Bytes::from(proto.encode_to_vec());
        let source = Source::new(Path::new("m"), &bytes);
        value(&Place::root(&source), proto, form)
    }

    fn ints(ints: &[i64]) -> AttributeProto {
        AttributeProto { ints: ints.into(), kind: Some(kind::INT64), ..Default::default() }
    }

    #[test]
    fn sequences_follow_the_brackets() {
        let int = |n| Value::Int(n, DataType::Int64);
        let proto = ints(&[7, 8, 9]);
        assert_eq!(
            read(&proto, "scalar:Tuple[value1,value2,],").unwrap(),
            Value::Tuple(vec![int(7), int(8)])
        );
        assert_eq!(
            read(&proto, "scalar:List[value3,Tuple[value1,],]").unwrap(),
            Value::List(vec![int(9), Value::Tuple(vec![int(7)])])
        );
        assert_eq!(read(&proto, "scalar:Tuple[],").unwrap(), Value::Tuple(vec![]));
        assert_eq!(read(&ints(&[]), "none").unwrap(), Value::None);
    }

    #[test]
    fn single_values_use_the_singular_fields() {
        let proto = AttributeProto { i: Some(1), kind: Some(kind::BOOL), ..Default::default() };
        assert_eq!(read(&proto, "scalar:value0").unwrap(), Value::Bool(true));
        let proto = AttributeProto {
            s: Some(Bytes::from_static(b"NCHW")),
            kind: Some(kind::STRING),
            ..Default::default()
        };
        assert_eq!(read(&proto, "scalar:value0").unwrap(), Value::Str("NCHW".into()));
    }

    #[test]
    fn bad_forms_are_errors() {
        let deep = format!("scalar:{}", "Tuple[".repeat(5000));
        let forms = [
            "scalar:Tuple[value9,],",
            "scalar:Tuple[value1,value1,],",
            "scalar:Tuple[value0,]",
            "scalar:Tuple[",
            "scalar:]",
            &deep,
        ];
        for form in forms {
            assert!(read(&ints(&[1]), form).is_err(), "{form}");
        }
    }

    #[test]
    fn sequences_hold_nothing_opaque() {
        let proto = AttributeProto { kind: Some(14), ..ints(&[1]) };
        let error = read(&proto, "scalar:Tuple[value1,],").unwrap_err().to_string();
        assert!(error.contains("values of type 14 is not supported"), "{error}");
    }

    #[test]
    fn shapes_are_found_by_name() {
        let tensor = |name: &'static str, dims: &[i64]| {
            let name = Some(Bytes::from_static(name.as_bytes()));
            Bytes::from(
                TensorProto { dims: dims.into(), data_type: Some(1), name, ..Default::default() }
                    .encode_to_vec(),
            )
        };
        let proto = AttributeProto {
            tensors: vec![tensor("shape2", &[2]), tensor("shape1", &[1])],
            ..Default::default()
        };
        let bytes = Bytes::from(proto.encode_to_vec());
        let source = Source::new(Path::new("m"), &bytes);
        let read = ty(&Place::root(&source), &proto, "shape:Tuple[shape1,shape2,],").unwrap();
        let expected = |dims: &[i64]| Type::tensor(DataType::Float32, dims);
        assert_eq!(read.as_sequence().unwrap().elements, [expected(&[1]), expected(&[2])]);
        let other = ty(&Place::root(&source), &proto, "shape:String,").unwrap();
        assert_eq!(other, Type::Other(Arc::from("String")));
    }
}
