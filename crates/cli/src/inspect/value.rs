//! Values and types of a model, for people and programs.

use mslite_mindir::{Monad, QuantParam, Type, Value};
use mslite_tensor::Tensor;
use serde_json::{Map, Value as Json, json};

use crate::report::json_values;

/// How many elements of a tensor are shown.
const ELEMENTS: usize = 16;

/// How deep values are shown.
const DEPTH: usize = 32;

/// The type as people read it; `?` for none.
pub(crate) fn type_text(ty: Option<&Type>) -> String {
    ty.map_or_else(|| "?".to_owned(), Type::to_string)
}

/// Bytes of a value of this type, if that is known.
pub(crate) fn type_bytes(ty: &Type) -> Option<u64> {
    match ty {
        Type::Tensor(tensor) => {
            let mut bytes = tensor.dtype.dtype()?.size() as u64;
            for &dim in &tensor.dims {
                bytes = bytes.checked_mul(u64::try_from(dim).ok()?)?;
            }
            Some(bytes)
        }
        Type::Scalar(dtype) => Some(dtype.dtype()?.size() as u64),
        Type::Tuple(sequence) | Type::List(sequence) if !sequence.dynamic_len => {
            sequence.elements.iter().try_fold(0u64, |sum, ty| sum.checked_add(type_bytes(ty)?))
        }
        _ => None,
    }
}

/// A value as JSON; of tensors the first elements.
pub(crate) fn json(value: &Value) -> Json {
    json_at(value, DEPTH)
}

fn json_at(value: &Value, depth: usize) -> Json {
    let Some(depth) = depth.checked_sub(1) else { return json!("...") };
    match value {
        Value::Bool(value) => json!(value),
        Value::Int(value, _) => json!(value),
        Value::Uint(value, _) => json!(value),
        Value::Float(value, _) if value.is_finite() => json!(value),
        Value::Float(value, _) => json!(value.to_string()),
        Value::Str(text) => json!(&**text),
        Value::Tuple(elements) | Value::List(elements) => {
            elements.iter().map(|element| json_at(element, depth)).collect()
        }
        Value::Dict(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.to_string(), json_at(value, depth)));
            Json::Object(entries.collect())
        }
        Value::Tensor(tensor) => tensor_json(tensor),
        Value::RawTensor(raw) => json!({ "tensor": format!("{}{:?}", raw.dtype, raw.dims) }),
        Value::Type { dtype, tensor } => {
            json!({ "type": if *tensor { format!("tensor of {dtype}") } else { dtype.to_string() } })
        }
        Value::Monad(Monad::Memory) => json!({ "monad": "memory" }),
        Value::Monad(Monad::Io) => json!({ "monad": "io" }),
        Value::Function(symbol) => json!({ "function": &**symbol }),
        Value::Quantization(records) => {
            json!({ "quantization": records.iter().map(|r| quant_json(r, depth)).collect::<Json>() })
        }
        Value::Opaque { kind, data } => json!({ "opaque": kind, "bytes": data.len() }),
        _ => Json::Null,
    }
}

fn tensor_json(tensor: &Tensor) -> Json {
    let text = format!("{}{:?}", tensor.dtype(), tensor.dims());
    json!({ "tensor": text, "values": first_elements(tensor) })
}

/// The first elements; the copy of so few makes alignment no matter.
fn first_elements(tensor: &Tensor) -> Vec<Json> {
    let count = tensor.num_elements().min(ELEMENTS);
    let bytes = &tensor.bytes()[..count * tensor.dtype().size()];
    let Ok(mut start) = Tensor::zeros(tensor.dtype(), &[count]) else { return Vec::new() };
    match start.bytes_mut() {
        Ok(there) => there.copy_from_slice(bytes),
        Err(_) => return Vec::new(),
    }
    json_values(&start, ELEMENTS)
}

fn quant_json(record: &QuantParam, depth: usize) -> Json {
    let attributes: Map<_, _> =
        record.attributes.iter().map(|(name, value)| (name.to_owned(), json_at(value, depth))).collect();
    json!({ "algorithm": &*record.algorithm, "attributes": attributes })
}

/// A value in a line of limited length.
pub(crate) fn preview(value: &Value) -> String {
    const LIMIT: usize = 60;
    let text = json(value).to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use mslite_mindir::DataType;

    use super::*;

    #[test]
    fn values_become_json() {
        let tensor = Tensor::from_vec(vec![1.5f32, -2.0], &[2]).unwrap();
        let tuple = Value::Tuple(vec![Value::Int(3, DataType::Int64), Value::Tensor(tensor), Value::None]);
        let expected = json!([3, { "tensor": "f32[2]", "values": [1.5, -2] }, null]);
        assert_eq!(json(&tuple), expected);
        assert_eq!(json(&Value::Float(f64::NAN, DataType::Float32)), json!("NaN"));
    }

    #[test]
    fn only_the_start_of_a_long_tensor_is_shown() {
        let tensor = Value::Tensor(Tensor::from_vec((0..1000i32).collect(), &[1000]).unwrap());
        assert_eq!(json(&tensor)["values"].as_array().map(Vec::len), Some(ELEMENTS));
        assert_eq!(preview(&tensor).chars().count(), 63);
    }
}
