#![doc = include_str!("../README.md")]

mod attribute;
mod crypto;
mod data_type;
mod decode;
mod error;
mod file;
mod groups;
mod model;
mod open;
mod place;
mod proto;
mod summary;
#[cfg(test)]
mod tests;
mod textual;
mod types;
mod value;
mod weights;

pub use bytes::Bytes;
pub use crypto::{Key, Mode};
pub use data_type::{DataType, dtype_of_type_id};
pub use error::{Error, Location, Result};
pub use groups::GroupFile;
pub use model::{
    Callee, Definition, Graph, Input, MapParameter, Model, Node, NodeKind, Output, Parameter, Primitive,
    PrimitiveKind, Symbol,
};
pub use open::OpenOptions;
pub use summary::{Collective, Summary};
pub use types::{CompositeKind, SequenceType, TensorType, Type};
pub use value::{Attributes, Monad, QuantParam, RawTensor, Value};
