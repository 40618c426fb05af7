//! Parameters of two models, and how far their values are apart.

use std::collections::{BTreeMap, BTreeSet};

use mslite::{DType, bf16, f16};
use mslite_mindir::{Model, RawTensor};
use mslite_tensor::{Complex, Element, Tensor};

use super::{Change, Difference, Only, ValueChange};

/// Elements that are compared at a time.
const CHUNK: usize = 1 << 16;

/// Compares parameters by name; their values only if `values`.
pub(super) fn compare(a: &Model, b: &Model, values: bool, difference: &mut Difference) {
    let (a, b) = (tensors(a), tensors(b));
    let names = |tensors: &BTreeMap<String, &RawTensor>| tensors.keys().cloned().collect::<BTreeSet<_>>();
    difference.parameters = Only::of(names(&a), names(&b));
    for (name, x) in &a {
        let Some(y) = b.get(name) else { continue };
        if (x.dtype, &x.dims) != (y.dtype, &y.dims) {
            let describe = |raw: &RawTensor| Some(format!("{}{:?}", raw.dtype, raw.dims));
            difference.changed_parameters.push(Change { what: name.clone(), a: describe(x), b: describe(y) });
        } else if values && let Some(change) = value_change(name, x, y) {
            difference.values.push(change);
        }
    }
}

/// The tensors of the parameters by name; of a hash map, its three.
fn tensors(model: &Model) -> BTreeMap<String, &RawTensor> {
    let mut tensors = BTreeMap::new();
    for parameter in &model.graph.parameters {
        tensors.insert(parameter.name.to_string(), &parameter.data);
    }
    for map in &model.graph.map_parameters {
        for (part, tensor) in [("keys", &map.keys), ("values", &map.values), ("status", &map.status)] {
            tensors.insert(format!("{} ({part})", map.name), tensor);
        }
    }
    tensors
}

fn value_change(name: &str, a: &RawTensor, b: &RawTensor) -> Option<ValueChange> {
    if a.data == b.data {
        return None;
    }
    let mut apart = Apart::default();
    match a.dtype.dtype() {
        Some(dtype) => apart.tensors(dtype, a, b),
        None => apart.bytes(&a.data, &b.data),
    }
    (apart.differing > 0).then(|| ValueChange {
        name: name.to_owned(),
        elements: apart.elements,
        differing: apart.differing,
        max_abs: apart.max_abs.filter(|max| max.is_finite()),
    })
}

/// What has been found out about two tensors of one type and shape.
#[derive(Debug, Default)]
struct Apart {
    elements: u64,
    differing: u64,
    max_abs: Option<f64>,
}

macro_rules! for_dtype {
    ($apart:expr, $a:expr, $b:expr, $dtype:expr, [$($variant:ident $ty:ty => $distance:expr),* $(,)?]) => {
        match $dtype {
            $(DType::$variant => $apart.chunks::<$ty>($a, $b, $distance),)*
            _ => $apart.bytes(&$a.data, &$b.data),
        }
    };
}

impl Apart {
    fn tensors(&mut self, dtype: DType, a: &RawTensor, b: &RawTensor) {
        for_dtype!(self, a, b, dtype, [
            I8 i8 => |x, y| f64::from(x.abs_diff(*y)),
            I16 i16 => |x, y| f64::from(x.abs_diff(*y)),
            I32 i32 => |x, y| f64::from(x.abs_diff(*y)),
            I64 i64 => |x, y| x.abs_diff(*y) as f64,
            U8 u8 => |x, y| f64::from(x.abs_diff(*y)),
            U16 u16 => |x, y| f64::from(x.abs_diff(*y)),
            U32 u32 => |x, y| f64::from(x.abs_diff(*y)),
            U64 u64 => |x, y| x.abs_diff(*y) as f64,
            F16 f16 => |x, y| distance(x.to_f64(), y.to_f64()),
            BF16 bf16 => |x, y| distance(x.to_f64(), y.to_f64()),
            F32 f32 => |x, y| distance((*x).into(), (*y).into()),
            F64 f64 => |x, y| distance(*x, *y),
            C64 Complex<f32> => |x, y| distance(x.re.into(), y.re.into()).hypot(distance(x.im.into(), y.im.into())),
            C128 Complex<f64> => |x, y| distance(x.re, y.re).hypot(distance(x.im, y.im)),
        ]);
    }

    fn chunks<T: Element>(&mut self, a: &RawTensor, b: &RawTensor, distance: impl Fn(&T, &T) -> f64) {
        let step = CHUNK * size_of::<T>();
        for start in (0..a.data.len()).step_by(step) {
            let end = (start + step).min(a.data.len());
            if a.data[start..end] == b.data[start..end] {
                self.elements += ((end - start) / size_of::<T>()) as u64;
                continue;
            }
            let part = |raw: &RawTensor| {
                let count = (end - start) / size_of::<T>();
                Tensor::from_bytes(T::DTYPE, &[count], raw.data.slice(start..end))?.to_vec::<T>()
            };
            match (part(a), part(b)) {
                (Ok(x), Ok(y)) => x.iter().zip(&y).for_each(|(x, y)| self.add(distance(x, y))),
                _ => self.bytes(&a.data[start..end], &b.data[start..end]),
            }
        }
    }

    fn add(&mut self, distance: f64) {
        self.elements += 1;
        if distance != 0.0 {
            self.differing += 1;
            let max = self.max_abs.unwrap_or(0.0);
            self.max_abs = Some(if distance.is_nan() { f64::INFINITY } else { max.max(distance) });
        }
    }

    /// For what is no number.
    fn bytes(&mut self, a: &[u8], b: &[u8]) {
        self.elements += a.len().max(b.len()) as u64;
        let differing = a.iter().zip(b).filter(|(x, y)| x != y).count() + a.len().abs_diff(b.len());
        self.differing += differing as u64;
    }
}

/// How far two numbers are apart: 0 when they are equal or both NaN.
fn distance(a: f64, b: f64) -> f64 {
    match a == b || a.is_nan() && b.is_nan() {
        true => 0.0,
        false => (a - b).abs(),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::NoUninit;
    use mslite_mindir::DataType;

    use super::*;

    fn raw<T: NoUninit>(dtype: DataType, values: &[T]) -> RawTensor {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        RawTensor { dtype, dims: vec![values.len()], data: bytes.to_vec().into() }
    }

    fn apart<T: NoUninit>(dtype: DataType, a: &[T], b: &[T]) -> Option<(u64, u64, Option<f64>)> {
        let change = value_change("w", &raw(dtype, a), &raw(dtype, b))?;
        Some((change.elements, change.differing, change.max_abs))
    }

    #[test]
    fn numbers_differ_by_their_values() {
        let a = [1.0f32, 2.0, -3.0, 0.0];
        assert_eq!(apart(DataType::Float32, &a, &[1.0, 2.5, -1.0, -0.0]), Some((4, 2, Some(2.0))));
        assert_eq!(
            apart(DataType::Int64, &[i64::MIN, 5], &[i64::MAX, 5]),
            Some((2, 1, Some(u64::MAX as f64)))
        );
        assert_eq!(apart(DataType::Uint8, &[0u8, 255], &[255, 0]), Some((2, 2, Some(255.0))));
        let (x, y) = (f16::from_f32(1.5), f16::from_f32(1.0));
        let halves = |x: f16| [x.to_bits()];
        assert_eq!(apart(DataType::Float16, &halves(x), &halves(y)), Some((1, 1, Some(0.5))));
    }

    #[test]
    fn what_is_not_finite_has_no_distance() {
        let nan = f32::NAN;
        assert_eq!(apart(DataType::Float32, &[nan, 1.0], &[-nan, 1.0]), None);
        assert_eq!(apart(DataType::Float32, &[nan, 1.0], &[0.0, 1.0]), Some((2, 1, None)));
        assert_eq!(apart(DataType::Float32, &[f32::INFINITY], &[f32::INFINITY]), None);
        assert_eq!(apart(DataType::Float32, &[f32::INFINITY, 1.0], &[3.0, 2.0]), Some((2, 2, None)));
    }

    #[test]
    fn long_tensors_are_compared_in_pieces() {
        let a: Vec<i32> = (0..3 * CHUNK as i32 + 7).collect();
        let mut b = a.clone();
        b[0] -= 1;
        let last = b.len() - 1;
        b[last] += 9;
        assert_eq!(apart(DataType::Int32, &a, &b), Some((a.len() as u64, 2, Some(9.0))));
    }
}
