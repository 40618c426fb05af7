//! Attribute messages: values, types and containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mslite_tensor::Tensor;

use crate::place::{Fields, Place};
use crate::proto::{
    AttributeProto, FunctorProto, QuantParamProto, ScalarGraphHolderProto, ScalarNodeProto, SeqInfoField,
    TensorProto, kind,
};
use crate::textual;
use crate::{
    Attributes, CompositeKind, DataType, Functor, Monad, ObjectKind, QuantParam, RawTensor, Result,
    ScalarGraph, ScalarNode, SequenceType, TensorType, Type, Value,
};

const ATTRIBUTE: Fields = Fields::of(&[1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 15, 16, 17, 18, 19, 20]);
/// Of a tensor that is a part of something else, and has no name.
pub(crate) const PART: Fields = Fields::of(&[1, 2, 9, 16]);
const TENSOR: Fields = Fields::of(&[1, 2, 7, 9, 13, 16, 17]);
const QUANT_PARAM: Fields = Fields::of(&[1, 2]);
const FUNCTOR: Fields = Fields::of(&[1, 2, 3]);

/// Tensors of a higher rank are refused; MindSpore's operators stop far below.
const MAX_RANK: usize = 32;

/// The attributes of one owner.
pub(crate) fn attributes<'a>(
    owner: &Arc<str>,
    places: impl Iterator<Item = Place<'a>>,
) -> Result<Attributes> {
    let mut values = BTreeMap::new();
    for place in places {
        let proto: AttributeProto = place.decode()?;
        let name = place.text(&proto.name);
        let replaced = values.insert(name, value(&place, &proto)?);
        place.clip(replaced.is_some());
    }
    Ok(Attributes::new(owner.clone(), values))
}

/// The value that an attribute carries.
pub(crate) fn value(place: &Place<'_>, proto: &AttributeProto) -> Result<Value> {
    if let Some(form) = textual_form(place, proto)? {
        return textual::value(place, proto, &form);
    }
    place.clip_to(ATTRIBUTE);
    match proto.kind.unwrap_or(0) {
        0 => Err(place.invalid("the attribute has no type")),
        kind::TENSOR | kind::TENSORS => tensors(place, proto),
        kind::TUPLE => Ok(Value::Tuple(values(place, &proto.values)?)),
        kind::LIST => Ok(Value::List(values(place, &proto.values)?)),
        kind::DICT => Ok(Value::Dict(entries(place, proto)?)),
        kind::UMONAD => Ok(Value::Monad(Monad::Memory)),
        kind::IOMONAD => Ok(Value::Monad(Monad::Io)),
        kind::NONE => Ok(Value::None),
        kind::TYPE_NULL => Ok(Value::Type { dtype: DataType::Undefined, tensor: false }),
        kind::PRIMITIVECLOSURE | kind::FUNCGRAPHCLOSURE | kind::PARTIALCLOSURE => {
            Ok(Value::Function(place.text(&proto.s)))
        }
        kind::CLASS_TYPE => Ok(object(ObjectKind::Class, place, proto)),
        kind::NAME_SPACE => Ok(object(ObjectKind::Namespace, place, proto)),
        kind::SYMBOL => Ok(object(ObjectKind::Symbol, place, proto)),
        kind::FUNCTOR => functor(place, proto),
        kind::SCALAR_GRAPH_HOLDER => scalar_graph(place, proto),
        _ => scalar(place, proto, None),
    }
}

/// The type that an attribute carries.
pub(crate) fn ty(place: &Place<'_>, proto: &AttributeProto) -> Result<Type> {
    if let Some(form) = textual_form(place, proto)? {
        return textual::ty(place, proto, &form);
    }
    place.clip_to(ATTRIBUTE);
    let number = proto.kind.unwrap_or(0);
    Ok(match number {
        kind::TENSOR | kind::TENSORS => {
            let mut types = tensor_types(place, proto)?;
            match types.len() {
                1 => Type::Tensor(types.remove(0)),
                _ => Type::Tuple(SequenceType {
                    elements: types.into_iter().map(Type::Tensor).collect(),
                    ..SequenceType::default()
                }),
            }
        }
        kind::SCALAR => match tensor_types(place, proto)?.first() {
            Some(tensor) => Type::Scalar(tensor.dtype),
            None => return Err(place.invalid("the scalar type names no element type")),
        },
        kind::STRING => Type::Str,
        kind::NONE => Type::None,
        kind::UMONAD => Type::Monad(Monad::Memory),
        kind::IOMONAD => Type::Monad(Monad::Io),
        kind::TUPLE => Type::Tuple(sequence(place, proto)?),
        kind::LIST => Type::List(sequence(place, proto)?),
        kind::PRIMITIVECLOSURE | kind::FUNCGRAPHCLOSURE | kind::PARTIALCLOSURE => {
            Type::Function(place.text(&proto.s))
        }
        kind::UNIONFUNCCLOSURE => Type::Union(types(place, proto)?),
        kind::CSR_TENSOR => composite(CompositeKind::Csr, place, proto)?,
        kind::COO_TENSOR => composite(CompositeKind::Coo, place, proto)?,
        kind::ROW_TENSOR => composite(CompositeKind::Row, place, proto)?,
        kind::MAP_TENSOR => composite(CompositeKind::Map, place, proto)?,
        kind::FLOAT..=kind::BFLOAT16 => match DataType::from_number(number) {
            Some(dtype) => Type::Scalar(dtype),
            None => opaque_type(place, number),
        },
        _ => opaque_type(place, number),
    })
}

fn opaque_type(place: &Place<'_>, kind: i32) -> Type {
    Type::Opaque { kind, data: place.bytes().clone() }
}

/// The dims and element type of a tensor that need not have data.
pub(crate) fn tensor_type(place: &Place<'_>, proto: &TensorProto) -> Result<TensorType> {
    check_rank(place, proto)?;
    let known = proto.dims.iter().all(|&dim| dim >= -1) || proto.dims == [-2];
    if !known {
        return Err(place.invalid(format!(
            "extents {:?}: none may be below -1, except in a single -2 for an unknown rank",
            proto.dims
        )));
    }
    let ref_key = proto.ref_key.as_ref().filter(|key| !key.is_empty());
    let ref_key = ref_key.map(|key| place.field("ref_key", key).as_text());
    place.clip_to(TENSOR);
    let name = place.text(&proto.name);
    Ok(TensorType { dtype: data_type(place, proto)?, dims: proto.dims.clone(), ref_key, name })
}

/// A tensor with its data, whose size is checked.
pub(crate) fn raw_tensor(place: &Place<'_>, proto: &TensorProto, data: &Bytes) -> Result<RawTensor> {
    let dtype = data_type(place, proto)?;
    let dims = fixed_dims(place, proto)?;
    check_size(place, dtype, &dims, data.len())?;
    Ok(RawTensor { dtype, dims, data: data.clone() })
}

/// Bytes of a dense tensor; `None` for element types without a fixed size.
pub(crate) fn size_bytes(place: &Place<'_>, dtype: DataType, dims: &[usize]) -> Result<Option<usize>> {
    if dtype == DataType::Undefined {
        return Err(place.invalid("a tensor with data needs an element type (data_type)"));
    }
    let elements = mslite_tensor::num_elements(dims)
        .ok_or_else(|| place.invalid(format!("extents {dims:?} are too large")))?;
    let Some(dtype) = dtype.dtype() else {
        return Ok(None);
    };
    let size = elements.checked_mul(dtype.size()).filter(|&size| isize::try_from(size).is_ok());
    size.map(Some).ok_or_else(|| place.invalid(format!("{dtype}{dims:?} is too large")))
}

pub(crate) fn data_type(place: &Place<'_>, proto: &TensorProto) -> Result<DataType> {
    let number = proto.data_type.unwrap_or(0);
    DataType::from_number(number)
        .ok_or_else(|| place.invalid(format!("{number} is not an element type (data_type)")))
}

pub(crate) fn fixed_dims(place: &Place<'_>, proto: &TensorProto) -> Result<Vec<usize>> {
    check_rank(place, proto)?;
    let dims = proto.dims.iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>();
    dims.map_err(|_| place.invalid(format!("extents {:?} of a tensor with data are negative", proto.dims)))
}

pub(crate) fn quantization(place: &Place<'_>, proto: &TensorProto) -> Result<Vec<QuantParam>> {
    let records = proto.quant_params.iter().enumerate();
    records.map(|(i, bytes)| quant_param(&place.entry("quant_params", i, bytes))).collect()
}

/// A scalar: from the singular fields, or from entry `index` of the plural ones (0 when not given).
pub(crate) fn scalar(place: &Place<'_>, proto: &AttributeProto, index: Option<usize>) -> Result<Value> {
    let number = proto.kind.unwrap_or(0);
    let at = index.unwrap_or(0);
    let int = || proto.i.filter(|_| index.is_none()).or(proto.ints.get(at).copied()).unwrap_or(0);
    let float = || proto.f.filter(|_| index.is_none()).or(proto.floats.get(at).copied()).unwrap_or(0.0);
    let double = || proto.d.filter(|_| index.is_none()).or(proto.doubles.get(at).copied()).unwrap_or(0.0);
    let dtype = DataType::from_number(number).unwrap_or(DataType::Undefined);
    Ok(match number {
        kind::BOOL => Value::Bool(int() != 0),
        kind::INT8 | kind::INT16 | kind::INT32 | kind::INT64 => Value::Int(int(), dtype),
        kind::UINT8 | kind::UINT16 | kind::UINT32 | kind::UINT64 => Value::Uint(int() as u64, dtype),
        kind::FLOAT | kind::FLOAT16 | kind::BFLOAT16 => Value::Float(float().into(), dtype),
        kind::DOUBLE => Value::Float(double(), dtype),
        kind::STRING => {
            let text = proto.s.as_ref().filter(|_| index.is_none()).or(proto.strings.get(at));
            string(place, text, number)
        }
        _ => opaque(place, number),
    })
}

fn string(place: &Place<'_>, text: Option<&Bytes>, number: i32) -> Value {
    match text.map(|bytes| std::str::from_utf8(bytes)) {
        None => Value::Str("".into()),
        Some(Ok(text)) => Value::Str(text.into()),
        Some(Err(_)) => opaque(place, number),
    }
}

pub(crate) fn opaque(place: &Place<'_>, number: i32) -> Value {
    Value::Opaque { kind: number, data: place.bytes().clone() }
}

/// The value of a tensor message: data, a type, or quantisation records.
pub(crate) fn tensor_value(place: &Place<'_>) -> Result<Value> {
    let proto: TensorProto = place.decode()?;
    place.clip_to(TENSOR);
    let Some(data) = &proto.raw_data else {
        return dataless(place, &proto);
    };
    let tensor = raw_tensor(place, &proto, data)?;
    let Some(dtype) = tensor.dtype.dtype() else {
        return Ok(Value::RawTensor(tensor));
    };
    Tensor::from_bytes(dtype, &tensor.dims, tensor.data)
        .map(Value::Tensor)
        .map_err(|error| place.invalid(error.to_string()))
}

fn dataless(place: &Place<'_>, proto: &TensorProto) -> Result<Value> {
    if proto.external_data.is_some() {
        return Err(place.unsupported("data outside the file for anything but parameters"));
    }
    let name = proto.name.as_deref().unwrap_or_default();
    if !proto.quant_params.is_empty() || name.ends_with(b"quant_param") {
        return Ok(Value::Quantization(quantization(place, proto)?));
    }
    Ok(Value::Type { dtype: data_type(place, proto)?, tensor: name.starts_with(b"tensor") })
}

fn textual_form(place: &Place<'_>, proto: &AttributeProto) -> Result<Option<Arc<str>>> {
    match &proto.ref_attr_name {
        Some(form) if !form.is_empty() => Ok(Some(place.field("ref_attr_name", form).as_utf8()?.into())),
        _ => Ok(None),
    }
}

fn tensors(place: &Place<'_>, proto: &AttributeProto) -> Result<Value> {
    match &*proto.tensors {
        [] => Err(place.invalid("the tensor attribute holds no tensor")),
        [tensor] => tensor_value(&place.entry("tensors", 0, tensor)),
        tensors => {
            let values = tensors.iter().enumerate();
            let values = values.map(|(i, tensor)| tensor_value(&place.entry("tensors", i, tensor)));
            Ok(Value::Tuple(values.collect::<Result<_>>()?))
        }
    }
}

fn values(place: &Place<'_>, encoded: &[Bytes]) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(encoded.len());
    for (i, bytes) in encoded.iter().enumerate() {
        let place = place.entry("values", i, bytes);
        values.push(value(&place, &place.decode()?)?);
    }
    Ok(values)
}

fn entries(place: &Place<'_>, proto: &AttributeProto) -> Result<Vec<(Arc<str>, Value)>> {
    let mut entries = Vec::with_capacity(proto.values.len());
    for (i, bytes) in proto.values.iter().enumerate() {
        let place = place.entry("values", i, bytes);
        let entry: AttributeProto = place.decode()?;
        let [held] = &*entry.values else {
            return Err(place.invalid("a dictionary entry holds exactly one value"));
        };
        let held = place.entry("values", 0, held);
        entries.push((place.text(&entry.name), value(&held, &held.decode()?)?));
    }
    Ok(entries)
}

fn object(kind: ObjectKind, place: &Place<'_>, proto: &AttributeProto) -> Value {
    Value::Object { kind, name: place.text(&proto.s) }
}

fn functor(place: &Place<'_>, proto: &AttributeProto) -> Result<Value> {
    let Some(bytes) = &proto.functor else {
        return Err(place.invalid("the functor is missing"));
    };
    let place = place.field("functor", bytes);
    let proto: FunctorProto = place.decode()?;
    place.clip_to(FUNCTOR);
    let values = values(&place, &proto.values)?;
    Ok(Value::Functor(Functor { kind: proto.kind.unwrap_or(0), name: place.text(&proto.name), values }))
}

fn scalar_graph(place: &Place<'_>, proto: &AttributeProto) -> Result<Value> {
    let Some(bytes) = &proto.graph_holder else {
        return Err(place.invalid("the scalar graph is missing"));
    };
    let place = place.field("graph_holder", bytes);
    let proto: ScalarGraphHolderProto = place.decode()?;
    let mut nodes = Vec::new();
    for (i, bytes) in proto.scalar_node.iter().enumerate() {
        let node: ScalarNodeProto = place.entry("scalar_node", i, bytes).decode()?;
        let op = node.scalar_op_type.unwrap_or(0);
        nodes.push(ScalarNode { op, inputs: node.in_index, values: node.value });
    }
    Ok(Value::ScalarGraph(ScalarGraph { nodes, input_shapes: proto.input_shape_index }))
}

fn types(place: &Place<'_>, proto: &AttributeProto) -> Result<Vec<Type>> {
    let mut types = Vec::with_capacity(proto.values.len());
    for (i, bytes) in proto.values.iter().enumerate() {
        let place = place.entry("values", i, bytes);
        types.push(ty(&place, &place.decode()?)?);
    }
    Ok(types)
}

fn sequence(place: &Place<'_>, proto: &AttributeProto) -> Result<SequenceType> {
    let elements = types(place, proto)?;
    let field: SeqInfoField = place.decode().unwrap_or_default();
    let info = field.seq_info.unwrap_or_default();
    let element = match &info.tuple_elem_item {
        None => None,
        Some(bytes) => {
            let place = place.field("tuple_elem_item", bytes);
            Some(Box::new(ty(&place, &place.decode()?)?))
        }
    };
    Ok(SequenceType { elements, dynamic_len: info.is_dyn_len.unwrap_or(false), element })
}

fn composite(kind: CompositeKind, place: &Place<'_>, proto: &AttributeProto) -> Result<Type> {
    Ok(Type::Composite { kind, parts: types(place, proto)? })
}

fn tensor_types(place: &Place<'_>, proto: &AttributeProto) -> Result<Vec<TensorType>> {
    let tensors = proto.tensors.iter().enumerate();
    let types = tensors.map(|(i, bytes)| {
        let place = place.entry("tensors", i, bytes);
        tensor_type(&place, &place.decode()?)
    });
    let types: Vec<_> = types.collect::<Result<_>>()?;
    if types.is_empty() { Err(place.invalid("the type holds no tensor")) } else { Ok(types) }
}

fn quant_param(place: &Place<'_>) -> Result<QuantParam> {
    let proto: QuantParamProto = place.decode()?;
    place.clip_to(QUANT_PARAM);
    if proto.quant_algo_name.is_none() {
        return Err(place.invalid("the quantisation record names no algorithm"));
    }
    let algorithm = place.text(&proto.quant_algo_name);
    let places = proto.attribute.iter().enumerate().map(|(i, bytes)| place.entry("attribute", i, bytes));
    Ok(QuantParam { attributes: attributes(&algorithm, places)?, algorithm })
}

fn check_rank(place: &Place<'_>, proto: &TensorProto) -> Result<()> {
    let rank = proto.dims.len();
    if rank > MAX_RANK {
        return Err(place.invalid(format!("a tensor of rank {rank}; at most {MAX_RANK} is allowed")));
    }
    Ok(())
}

fn check_size(place: &Place<'_>, dtype: DataType, dims: &[usize], actual: usize) -> Result<()> {
    match size_bytes(place, dtype, dims)? {
        Some(expected) if expected != actual => {
            Err(place.invalid(format!("{dtype}{dims:?} needs {expected} bytes, but there are {actual}")))
        }
        _ => Ok(()),
    }
}
