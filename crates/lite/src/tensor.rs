use std::fmt;

use mslite_tensor::{DType, Dim, Element, TensorSpec, num_elements};
use ndarray::{Array, ArrayD, ArrayViewD, Dimension};

use crate::{Error, ErrorKind, Result};

/// A named tensor that goes into a model or comes out of it.
///
/// Shapes are MindSpore Lite's: -1 is an extent that is not known before data are set.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    name: String,
    dtype: DType,
    shape: Vec<i64>,
    data: Option<mslite_tensor::Tensor>,
}

impl Tensor {
    /// A tensor without data.
    pub(crate) fn described(name: &str, spec: &TensorSpec) -> Self {
        let extent = |dim: &Dim| dim.as_fixed().unwrap_or(-1);
        let shape = match spec.shape.dims() {
            Some(dims) => dims.iter().map(extent).collect(),
            None => vec![-2],
        };
        Tensor { name: name.to_owned(), dtype: spec.dtype, shape, data: None }
    }

    /// Takes over a tensor.
    pub fn new(name: impl Into<String>, data: mslite_tensor::Tensor) -> Self {
        let mut tensor = Tensor { name: name.into(), dtype: data.dtype(), shape: Vec::new(), data: None };
        tensor.put(data);
        tensor
    }

    /// Takes over an array, without copying if it is in standard layout.
    ///
    /// # Errors
    /// `InvalidArgument` does not occur for a valid array.
    pub fn from_array<T: Element + Clone, D: Dimension>(
        name: impl Into<String>,
        array: Array<T, D>,
    ) -> Result<Self> {
        Ok(Tensor::new(name, mslite_tensor::Tensor::from_array(array)?))
    }

    /// Name; that of the model's input or output.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents; -1 where not known, a single -2 when not even their number is.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Number of elements; 0 while an extent is not known.
    pub fn element_num(&self) -> usize {
        self.dims().and_then(|dims| num_elements(&dims)).unwrap_or(0)
    }

    /// Number of bytes; 0 while an extent is not known.
    pub fn data_size(&self) -> usize {
        self.element_num().saturating_mul(self.dtype.size())
    }

    /// Takes over an array as the data. Extents that are known must be the same.
    ///
    /// # Errors
    /// `InvalidArgument` for another element type or shape.
    pub fn set_data<T: Element + Clone, D: Dimension>(&mut self, array: Array<T, D>) -> Result<()> {
        self.set_tensor(mslite_tensor::Tensor::from_array(array)?)
    }

    /// Takes over a tensor as the data. Extents that are known must be the same.
    ///
    /// # Errors
    /// `InvalidArgument` for another element type or shape.
    pub fn set_tensor(&mut self, data: mslite_tensor::Tensor) -> Result<()> {
        let known = |(&have, &given): (&i64, &usize)| have == -1 || usize::try_from(have) == Ok(given);
        let same_shape = self.shape == [-2]
            || (self.shape.len() == data.dims().len() && self.shape.iter().zip(data.dims()).all(known));
        if data.dtype() != self.dtype || !same_shape {
            let message = format!("tensor {self}, was given {}", data.spec());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.put(data);
        Ok(())
    }

    /// The data, if any.
    pub fn data(&self) -> Option<&mslite_tensor::Tensor> {
        self.data.as_ref()
    }

    /// The data, for writing in place, if any.
    pub fn data_mut(&mut self) -> Option<&mut mslite_tensor::Tensor> {
        self.data.as_mut()
    }

    /// The data as an array view, without copying.
    ///
    /// # Errors
    /// `InvalidArgument` without data or for another element type.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        Ok(self.expect_data()?.view()?)
    }

    /// The data as an array, without copying when the tensor owns them.
    ///
    /// # Errors
    /// `InvalidArgument` without data or for another element type.
    pub fn into_array<T: Element>(self) -> Result<ArrayD<T>> {
        self.expect_data()?;
        let data = self.data.expect("it has data");
        Ok(data.into_array()?)
    }

    pub(crate) fn expect_data(&self) -> Result<&mslite_tensor::Tensor> {
        self.data.as_ref().ok_or_else(|| {
            let message = format!("tensor {self} has no data; set some (`set_data`)");
            Error::new(ErrorKind::InvalidArgument, message)
        })
    }

    /// Another shape, without data.
    pub(crate) fn set_shape(&mut self, dims: &[usize]) {
        self.shape = dims.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
        self.data = None;
    }

    fn put(&mut self, data: mslite_tensor::Tensor) {
        self.set_shape(data.dims());
        self.data = Some(data);
    }

    fn dims(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|&d| usize::try_from(d).ok()).collect()
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}{:?}", self.name, self.dtype, self.shape)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({self})")
    }
}

#[cfg(test)]
mod tests {
    use mslite_tensor::Shape;
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn data_fill_unknown_extents_only() {
        let spec = TensorSpec::new(DType::F32, Shape::ranked([Dim::symbol("n"), Dim::from(2)]));
        let mut tensor = Tensor::described("x", &spec);
        assert_eq!((tensor.shape(), tensor.data_size()), (&[-1, 2][..], 0));
        tensor.set_data(Array2::<f32>::ones((3, 2))).unwrap();
        assert_eq!((tensor.shape(), tensor.data_size(), tensor.element_num()), (&[3, 2][..], 24, 6));
        let error = tensor.set_data(Array2::<f32>::ones((3, 3))).unwrap_err();
        assert_eq!(error.to_string(), "tensor \"x\" of f32[3, 2], was given f32[3, 3]");
        assert!(tensor.set_data(Array2::<i32>::ones((3, 2))).is_err());
    }

    #[test]
    fn arrays_go_in_and_out_without_copying() {
        let array = array![[1.0f32, 2.0]];
        let address = array.as_ptr();
        let tensor = Tensor::from_array("x", array).unwrap();
        assert_eq!(tensor.view::<f32>().unwrap().as_ptr(), address);
        let back = tensor.into_array::<f32>().unwrap();
        assert_eq!(back.as_ptr(), address);
    }
}
