use mslite_tensor::{Complex, DType, Element, Tensor, bf16, f16, num_elements};

/// One element, of whatever type, in a type wide enough for all of its kind. Truth values are 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar {
    Int(i128),
    Float(f64),
    Complex(Complex<f64>),
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Scalar::Int(i128::from(value))
    }
}

/// A tensor as a list of elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Vec<Scalar>,
}

impl Array {
    /// From elements, each rounded or wrapped to what `dtype` can hold.
    pub(crate) fn new(dtype: DType, dims: &[usize], values: Vec<Scalar>) -> Self {
        assert_eq!(num_elements(dims), Some(values.len()), "one element for each index");
        let values = values.into_iter().map(|value| stored(dtype, value)).collect();
        Array { dtype, dims: dims.to_vec(), values }
    }

    /// From a function of the index.
    pub(crate) fn build(
        dtype: DType,
        dims: &[usize],
        mut element: impl FnMut(&[usize]) -> Result<Scalar, String>,
    ) -> Result<Self, String> {
        let values = indices(dims).iter().map(|index| element(index)).collect::<Result<_, _>>()?;
        Ok(Array::new(dtype, dims, values))
    }

    /// The element at an index.
    pub(crate) fn at(&self, index: &[usize]) -> Scalar {
        self.values[flat(index, &self.dims)]
    }

    /// The element that broadcasting shows at an index of a shape of the same or a higher rank.
    pub(crate) fn at_broadcast(&self, index: &[usize]) -> Scalar {
        let lead = index.len() - self.dims.len();
        let own: Vec<usize> =
            index[lead..].iter().zip(&self.dims).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
        self.at(&own)
    }

    /// The elements, which must be integers.
    pub(crate) fn int_at(&self, index: &[usize]) -> Result<i128, String> {
        match self.at(index) {
            Scalar::Int(value) => Ok(value),
            other => Err(format!("{other:?} is no integer")),
        }
    }

    pub(crate) fn from_tensor(tensor: &Tensor) -> Result<Self, String> {
        let int = |v: i128| Scalar::Int(v);
        let values = match tensor.dtype() {
            DType::Bool => read(tensor, |v: bool| Scalar::from(v)),
            DType::I8 => read(tensor, |v: i8| int(v.into())),
            DType::I16 => read(tensor, |v: i16| int(v.into())),
            DType::I32 => read(tensor, |v: i32| int(v.into())),
            DType::I64 => read(tensor, |v: i64| int(v.into())),
            DType::U8 => read(tensor, |v: u8| int(v.into())),
            DType::U16 => read(tensor, |v: u16| int(v.into())),
            DType::U32 => read(tensor, |v: u32| int(v.into())),
            DType::U64 => read(tensor, |v: u64| int(v.into())),
            DType::F16 => read(tensor, |v: f16| Scalar::Float(v.to_f64())),
            DType::BF16 => read(tensor, |v: bf16| Scalar::Float(v.to_f64())),
            DType::F32 => read(tensor, |v: f32| Scalar::Float(v.into())),
            DType::F64 => read(tensor, Scalar::Float),
            DType::C64 => {
                read(tensor, |v: Complex<f32>| Scalar::Complex(Complex::new(v.re.into(), v.im.into())))
            }
            DType::C128 => read(tensor, Scalar::Complex),
            other => Err(format!("{other} is not known here")),
        }?;
        Ok(Array { dtype: tensor.dtype(), dims: tensor.dims().to_vec(), values })
    }

    pub(crate) fn to_tensor(&self) -> Tensor {
        match self.dtype {
            DType::Bool => self.write(|v| int(v) != 0),
            DType::I8 => self.write(|v| int(v) as i8),
            DType::I16 => self.write(|v| int(v) as i16),
            DType::I32 => self.write(|v| int(v) as i32),
            DType::I64 => self.write(|v| int(v) as i64),
            DType::U8 => self.write(|v| int(v) as u8),
            DType::U16 => self.write(|v| int(v) as u16),
            DType::U32 => self.write(|v| int(v) as u32),
            DType::U64 => self.write(|v| int(v) as u64),
            DType::F16 => self.write(|v| f16::from_f64(float(v))),
            DType::BF16 => self.write(|v| bf16::from_f64(float(v))),
            DType::F32 => self.write(|v| float(v) as f32),
            DType::F64 => self.write(float),
            DType::C64 => self.write(|v| Complex::new(complex(v).re as f32, complex(v).im as f32)),
            DType::C128 => self.write(complex),
            other => unreachable!("{other} is not known here"),
        }
    }

    fn write<T: Element>(&self, convert: impl Fn(Scalar) -> T) -> Tensor {
        let values = self.values.iter().map(|&v| convert(v)).collect();
        Tensor::from_vec(values, &self.dims).expect("one element for each index")
    }
}

fn read<T: Element>(tensor: &Tensor, convert: impl Fn(T) -> Scalar) -> Result<Vec<Scalar>, String> {
    Ok(tensor.to_vec::<T>().map_err(|e| e.to_string())?.into_iter().map(convert).collect())
}

/// The integer part: floats are truncated.
pub(crate) fn int(value: Scalar) -> i128 {
    match value {
        Scalar::Int(v) => v,
        Scalar::Float(v) => v as i128,
        Scalar::Complex(v) => v.re as i128,
    }
}

/// The real part.
pub(crate) fn float(value: Scalar) -> f64 {
    match value {
        Scalar::Int(v) => v as f64,
        Scalar::Float(v) => v,
        Scalar::Complex(v) => v.re,
    }
}

pub(crate) fn complex(value: Scalar) -> Complex<f64> {
    match value {
        Scalar::Complex(v) => v,
        other => Complex::new(float(other), 0.0),
    }
}

/// What remains of a value in a tensor of this type: conversion, wrapping, rounding to nearest.
pub(crate) fn stored(dtype: DType, value: Scalar) -> Scalar {
    match dtype {
        DType::Bool => Scalar::from(complex(value) != Complex::default()),
        DType::I8 => Scalar::Int((int(value) as i8).into()),
        DType::I16 => Scalar::Int((int(value) as i16).into()),
        DType::I32 => Scalar::Int((int(value) as i32).into()),
        DType::I64 => Scalar::Int((int(value) as i64).into()),
        DType::U8 => Scalar::Int((int(value) as u8).into()),
        DType::U16 => Scalar::Int((int(value) as u16).into()),
        DType::U32 => Scalar::Int((int(value) as u32).into()),
        DType::U64 => Scalar::Int((int(value) as u64).into()),
        DType::F16 => Scalar::Float(f16::from_f64(float(value)).to_f64()),
        DType::BF16 => Scalar::Float(bf16::from_f64(float(value)).to_f64()),
        DType::F32 => Scalar::Float((float(value) as f32).into()),
        DType::C64 => {
            let v = complex(value);
            Scalar::Complex(Complex::new((v.re as f32).into(), (v.im as f32).into()))
        }
        DType::C128 => Scalar::Complex(complex(value)),
        _ => Scalar::Float(float(value)),
    }
}

/// Every index of a shape, in row-major order.
pub(crate) fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &extent in dims {
        all = all
            .iter()
            .flat_map(|head: &Vec<usize>| (0..extent).map(|i| [head.as_slice(), &[i]].concat()))
            .collect();
    }
    all
}

/// Position of an index in row-major order.
pub(crate) fn flat(index: &[usize], dims: &[usize]) -> usize {
    assert_eq!(index.len(), dims.len(), "one number for each axis");
    index.iter().zip(dims).fold(0, |at, (&i, &extent)| {
        assert!(i < extent, "index {index:?} is outside {dims:?}");
        at * extent + i
    })
}

/// The index with the number along one axis replaced.
pub(crate) fn with(index: &[usize], axis: usize, i: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[axis] = i;
    index
}

/// numpy broadcasting of two shapes that the type rules have accepted.
pub(crate) fn broadcast_dims(x: &[usize], y: &[usize]) -> Vec<usize> {
    let rank = x.len().max(y.len());
    let extent = |dims: &[usize], axis: usize| match (axis + dims.len()).checked_sub(rank) {
        Some(own) => dims[own],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (extent(x, axis), extent(y, axis)) {
            (1, n) => n,
            (n, _) => n,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_row_major() {
        assert_eq!(indices(&[2, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]]);
        assert_eq!(indices(&[]), [Vec::<usize>::new()]);
        assert!(indices(&[2, 0]).is_empty());
        for (at, index) in indices(&[2, 3, 4]).iter().enumerate() {
            assert_eq!(flat(index, &[2, 3, 4]), at);
        }
    }

    #[test]
    fn values_are_rounded_and_wrapped() {
        assert_eq!(stored(DType::I8, Scalar::Int(130)), Scalar::Int(-126));
        assert_eq!(stored(DType::U64, Scalar::Int(-1)), Scalar::Int(u64::MAX.into()));
        assert_eq!(stored(DType::I32, Scalar::Float(-1.7)), Scalar::Int(-1));
        assert_eq!(stored(DType::BF16, Scalar::Float(1.003)), Scalar::Float(1.0));
        assert_eq!(stored(DType::Bool, Scalar::Float(-0.5)), Scalar::Int(1));
        assert_eq!(stored(DType::F16, Scalar::Float(1e9)), Scalar::Float(f64::INFINITY));
    }

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        assert_eq!(broadcast_dims(&[2, 1, 3], &[4, 1]), [2, 4, 3]);
        assert_eq!(broadcast_dims(&[], &[0]), [0]);
        assert_eq!(broadcast_dims(&[1], &[0, 1]), [0, 1]);
    }

    #[test]
    fn tensors_round_trip() {
        for dtype in DType::ALL {
            let values = (0..6).map(Scalar::Int).collect();
            let array = Array::new(dtype, &[2, 3], values);
            assert_eq!(Array::from_tensor(&array.to_tensor()), Ok(array));
        }
    }
}
