use crate::DType;

/// What can go wrong with tensors and shapes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tensor holds elements of another type.
    #[error("the tensor holds {actual}, not {expected}")]
    DType {
        /// What the caller asked for.
        expected: DType,
        /// What the tensor holds.
        actual: DType,
    },
    /// The number of bytes or elements does not fit the shape.
    #[error("{dtype}{dims:?} needs {expected} bytes, but there are {actual}")]
    Size {
        /// Element type.
        dtype: DType,
        /// Extents.
        dims: Vec<usize>,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that are there.
        actual: usize,
    },
    /// A shape with more bytes than a machine can address.
    #[error("shape {dims:?} is too large")]
    TooLarge {
        /// Extents.
        dims: Vec<usize>,
    },
    /// The bytes are not aligned for their element type, or not valid for it (a bool that is neither 0 nor 1).
    #[error("the bytes cannot be viewed as {0}: misaligned or invalid")]
    View(DType),
    /// Several tensors share the bytes, so that they cannot be written.
    #[error("the tensor's bytes are shared and cannot be written")]
    Shared,
    /// A symbolic extent has no value.
    #[error("the extent {0} has no value")]
    Unbound(String),
    /// Text that is not an extent or a type.
    #[error("cannot read {text:?} as {what}")]
    Parse {
        /// What was expected.
        what: &'static str,
        /// What was given.
        text: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
