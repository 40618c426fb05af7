#![doc = include_str!("../README.md")]

mod buffer;
mod dim;
mod dtype;
mod error;
#[cfg(feature = "ndarray")]
mod ndarray_interop;
#[cfg(feature = "npz")]
pub mod npz;
mod shape;
mod tensor;

pub use buffer::{Buffer, DeviceApi, DeviceSpan, DeviceStream, HostBuffer, HostSpan, HostStream, Stream};
pub use bytes::Bytes;
pub use dim::{Bindings, Dim, DimStep, Symbol};
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use half::{bf16, f16};
pub use num_complex::Complex;
pub use shape::{Dims, Shape, TensorSpec, contiguous_strides, num_elements};
pub use tensor::Tensor;
