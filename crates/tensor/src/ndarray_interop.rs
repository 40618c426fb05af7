use ndarray::{ArrayD, ArrayViewD, Dimension, IxDyn};

use crate::{Element, Result, Tensor};

impl Tensor {
    /// Takes over an array, without copying if it is in standard layout.
    ///
    /// # Errors
    /// [`crate::Error::Size`] does not occur for a valid array.
    pub fn from_array<T: Element + Clone, D: Dimension>(array: ndarray::Array<T, D>) -> Result<Self> {
        let dims = array.shape().to_vec();
        if array.is_standard_layout() {
            let (values, offset) = array.into_raw_vec_and_offset();
            let count: usize = dims.iter().product();
            if offset.unwrap_or(0) == 0 && values.len() == count {
                return Tensor::from_vec(values, &dims);
            }
            let start = offset.unwrap_or(0);
            return Tensor::from_vec(values[start..start + count].to_vec(), &dims);
        }
        Tensor::from_vec(array.iter().cloned().collect(), &dims)
    }

    /// The elements as an array view, without copying.
    ///
    /// # Errors
    /// As [`Tensor::as_slice`].
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        let slice = self.as_slice::<T>()?;
        Ok(ArrayViewD::from_shape(IxDyn(self.dims()), slice).expect("a tensor is dense and row-major"))
    }

    /// The elements as an array; without copying when the tensor owns them.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    pub fn into_array<T: Element>(self) -> Result<ArrayD<T>> {
        let dims = IxDyn(self.dims());
        Ok(ArrayD::from_shape_vec(dims, self.into_vec()?).expect("a tensor is dense and row-major"))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn arrays_move_in_and_out_without_copying() {
        let array = array![[1.0f32, 2.0], [3.0, 4.0]];
        let address = array.as_ptr();
        let tensor = Tensor::from_array(array).unwrap();
        assert_eq!(tensor.view::<f32>().unwrap()[[1, 0]], 3.0);
        assert_eq!(tensor.into_array::<f32>().unwrap().as_ptr(), address);
    }

    #[test]
    fn strided_arrays_become_row_major() {
        let array = array![[1, 2, 3], [4, 5, 6]].reversed_axes();
        let tensor = Tensor::from_array(array).unwrap();
        assert_eq!(tensor.dims(), [3, 2]);
        assert_eq!(tensor.as_slice::<i32>().unwrap(), [1, 4, 2, 5, 3, 6]);
        let mut sliced = array![1i64, 2, 3, 4];
        sliced.slice_collapse(ndarray::s![1..3]);
        assert_eq!(Tensor::from_array(sliced).unwrap().as_slice::<i64>().unwrap(), [2, 3]);
    }
}
