use std::any::Any;
use std::fmt;

use bytemuck::checked;
use bytes::Bytes;
use half::{bf16, f16};

use crate::dtype::sealed::Memory;
use crate::shape::size_bytes;
use crate::{Complex, DType, Dims, Element, Error, Result, Shape, TensorSpec};

/// A dense row-major tensor in host memory.
///
/// The bytes are shared (a window of a mapped file, another tensor's bytes) or owned; only owned bytes can be
/// written. Cloning shared bytes costs nothing, cloning owned bytes copies them.
pub struct Tensor {
    dtype: DType,
    dims: Dims,
    storage: Storage,
}

enum Storage {
    Shared(Bytes),
    Owned(Box<dyn Memory>),
}

impl Tensor {
    /// A tensor of zeros that owns its memory.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when there is not as much memory.
    pub fn zeros(dtype: DType, dims: &[usize]) -> Result<Self> {
        let elements = size_bytes(dtype, dims)? / dtype.size();
        let memory = match dtype {
            DType::Bool | DType::U8 => zeros::<u8>(elements),
            DType::I8 => zeros::<i8>(elements),
            DType::I16 => zeros::<i16>(elements),
            DType::U16 => zeros::<u16>(elements),
            DType::F16 => zeros::<f16>(elements),
            DType::BF16 => zeros::<bf16>(elements),
            DType::I32 => zeros::<i32>(elements),
            DType::U32 => zeros::<u32>(elements),
            DType::F32 => zeros::<f32>(elements),
            DType::I64 => zeros::<i64>(elements),
            DType::U64 => zeros::<u64>(elements),
            DType::F64 => zeros::<f64>(elements),
            DType::C64 => zeros::<Complex<f32>>(elements),
            DType::C128 => zeros::<Complex<f64>>(elements),
        };
        let memory = memory.ok_or_else(|| Error::TooLarge { dims: dims.to_vec() })?;
        Ok(Tensor { dtype, dims: Dims::from_slice(dims), storage: Storage::Owned(memory) })
    }

    /// A tensor that takes over a vector, without copying.
    ///
    /// # Errors
    /// [`Error::Size`] when the shape needs another number of elements.
    pub fn from_vec<T: Element>(values: Vec<T>, dims: &[usize]) -> Result<Self> {
        check_size(T::DTYPE, dims, values.len().saturating_mul(size_of::<T>()))?;
        Ok(Tensor {
            dtype: T::DTYPE,
            dims: Dims::from_slice(dims),
            storage: Storage::Owned(T::store(values)),
        })
    }

    /// A tensor over shared bytes in native order, without copying. The bytes need no alignment.
    ///
    /// # Errors
    /// [`Error::Size`] when the shape needs another number of bytes.
    pub fn from_bytes(dtype: DType, dims: &[usize], bytes: Bytes) -> Result<Self> {
        check_size(dtype, dims, bytes.len())?;
        Ok(Tensor { dtype, dims: Dims::from_slice(dims), storage: Storage::Shared(bytes) })
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Self {
        Tensor { dtype: T::DTYPE, dims: Dims::new(), storage: Storage::Owned(T::store(vec![value])) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Element type and shape.
    pub fn spec(&self) -> TensorSpec {
        TensorSpec::new(self.dtype, Shape::fixed(&self.dims))
    }

    /// Number of elements.
    pub fn num_elements(&self) -> usize {
        self.bytes().len() / self.dtype.size()
    }

    /// Number of bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes().len()
    }

    /// The bytes, in native order.
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Shared(bytes) => bytes,
            Storage::Owned(memory) => memory.bytes(),
        }
    }

    /// The bytes, for writing.
    ///
    /// # Errors
    /// [`Error::Shared`] when others may see them.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        match &mut self.storage {
            Storage::Shared(_) => Err(Error::Shared),
            Storage::Owned(memory) => Ok(memory.bytes_mut()),
        }
    }

    /// The elements, without copying.
    ///
    /// # Errors
    /// [`Error::DType`] for another element type; [`Error::View`] when shared bytes are misaligned, or hold a
    /// bool that is neither 0 nor 1. [`Tensor::to_vec`] copies instead.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.expect_dtype::<T>()?;
        checked::try_cast_slice(self.bytes()).map_err(|_| Error::View(self.dtype))
    }

    /// The elements, for writing, without copying.
    ///
    /// # Errors
    /// As [`Tensor::as_slice`], and [`Error::Shared`] when others may see them.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        self.expect_dtype::<T>()?;
        let dtype = self.dtype;
        checked::try_cast_slice_mut(self.bytes_mut()?).map_err(|_| Error::View(dtype))
    }

    /// A copy of the elements, whatever the alignment of the bytes.
    ///
    /// # Errors
    /// [`Error::DType`] for another element type; [`Error::View`] for a bool that is neither 0 nor 1.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype::<T>()?;
        let mut values = Vec::with_capacity(self.num_elements());
        for bytes in self.bytes().chunks_exact(size_of::<T>()) {
            values.push(checked::try_pod_read_unaligned(bytes).map_err(|_| Error::View(self.dtype))?);
        }
        Ok(values)
    }

    /// The elements; without copying when the tensor owns a vector of this type.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>> {
        self.expect_dtype::<T>()?;
        match self.storage {
            Storage::Owned(memory) if !matches!(T::DTYPE, DType::Bool) => {
                let memory: Box<dyn Any> = memory.into_any();
                memory.downcast::<Vec<T>>().map(|v| *v).map_err(|_| Error::View(self.dtype))
            }
            _ => self.to_vec(),
        }
    }

    /// The same bytes behind another shape, without copying.
    ///
    /// # Errors
    /// [`Error::Size`] when the shape needs another number of bytes.
    pub fn reshape(mut self, dims: &[usize]) -> Result<Self> {
        check_size(self.dtype, dims, self.size_bytes())?;
        self.dims = Dims::from_slice(dims);
        Ok(self)
    }

    /// The same tensor with bytes that clones share, without copying.
    pub fn into_shared(self) -> Self {
        let bytes = self.into_bytes_parts();
        Tensor { dtype: bytes.0, dims: bytes.1, storage: Storage::Shared(bytes.2) }
    }

    /// The bytes, without copying.
    pub fn into_bytes(self) -> Bytes {
        self.into_bytes_parts().2
    }

    fn into_bytes_parts(self) -> (DType, Dims, Bytes) {
        struct Owner(Box<dyn Memory>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.bytes()
            }
        }
        let bytes = match self.storage {
            Storage::Shared(bytes) => bytes,
            Storage::Owned(memory) => Bytes::from_owner(Owner(memory)),
        };
        (self.dtype, self.dims, bytes)
    }

    fn expect_dtype<T: Element>(&self) -> Result<()> {
        if self.dtype == T::DTYPE {
            return Ok(());
        }
        Err(Error::DType { expected: T::DTYPE, actual: self.dtype })
    }
}

fn check_size(dtype: DType, dims: &[usize], actual: usize) -> Result<()> {
    let expected = size_bytes(dtype, dims)?;
    if expected == actual {
        return Ok(());
    }
    Err(Error::Size { dtype, dims: dims.to_vec(), expected, actual })
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        match &self.storage {
            Storage::Shared(bytes) => {
                Tensor { dtype: self.dtype, dims: self.dims.clone(), storage: Storage::Shared(bytes.clone()) }
            }
            Storage::Owned(memory) => {
                let mut copy = Tensor::zeros(self.dtype, &self.dims).expect("the size fitted before");
                copy.bytes_mut().expect("just allocated").copy_from_slice(memory.bytes());
                copy
            }
        }
    }
}

impl PartialEq for Tensor {
    /// Same type, same shape, same bytes.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.dims == other.dims && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{:?})", self.dtype, self.dims.as_slice())
    }
}

/// Zeros, if there is memory for them.
fn zeros<T: bytemuck::Pod + Send + Sync>(count: usize) -> Option<Box<dyn Memory>> {
    let zeros: Vec<T> = bytemuck::allocation::try_zeroed_slice_box(count).ok()?.into_vec();
    Some(Box::new(zeros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_move_in_and_out_without_copying() {
        let values = vec![1.0f32; 6];
        let address = values.as_ptr();
        let tensor = Tensor::from_vec(values, &[2, 3]).unwrap();
        assert_eq!(tensor.as_slice::<f32>().unwrap().as_ptr(), address);
        let values = tensor.into_vec::<f32>().unwrap();
        assert_eq!(values.as_ptr(), address);
    }

    #[test]
    fn shared_bytes_may_be_misaligned_and_are_read_only() {
        let bytes = Bytes::from(vec![0u8, 1, 2, 3, 4, 5, 6, 7, 8]).slice(1..);
        let mut tensor = Tensor::from_bytes(DType::U32, &[2], bytes).unwrap();
        assert_eq!(tensor.to_vec::<u32>().unwrap(), [0x0403_0201, 0x0807_0605]);
        assert_eq!(tensor.bytes_mut(), Err(Error::Shared));
        assert!(matches!(tensor.as_slice::<f32>(), Err(Error::DType { .. })));
    }

    #[test]
    fn bools_are_checked() {
        let tensor = Tensor::from_bytes(DType::Bool, &[2], Bytes::from_static(&[1, 2])).unwrap();
        assert_eq!(tensor.as_slice::<bool>(), Err(Error::View(DType::Bool)));
        let tensor = Tensor::from_vec(vec![true, false], &[2]).unwrap();
        assert_eq!(tensor.as_slice::<bool>().unwrap(), [true, false]);
        assert_eq!(tensor.into_vec::<bool>().unwrap(), [true, false]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(matches!(Tensor::from_vec(vec![1i32; 5], &[2, 3]), Err(Error::Size { .. })));
        assert!(matches!(Tensor::zeros(DType::F32, &[usize::MAX, 2]), Err(Error::TooLarge { .. })));
        assert_eq!(Tensor::zeros(DType::F32, &[0, usize::MAX]).unwrap().num_elements(), 0);
    }
}
