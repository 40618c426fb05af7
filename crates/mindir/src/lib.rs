#![doc = include_str!("../README.md")]

mod attribute;
mod builder;
mod cipher;
mod crypto;
mod data_type;
mod decode;
mod encode;
mod error;
mod file;
mod groups;
mod layout;
mod model;
mod names;
mod open;
mod place;
mod proto;
mod save;
mod summary;
#[cfg(test)]
mod tests;
mod text;
mod textual;
mod types;
mod value;
mod weights;

pub use builder::{GraphBuilder, ModelBuilder};
pub use bytes::Bytes;
pub use crypto::{Key, Mode};
pub use data_type::{DataType, dtype_of_type_id, type_id_of_dtype};
pub use error::{Error, Location, Result};
pub use groups::GroupFile;
pub use layout::{PreprocessOp, TensorLayout};
pub use model::{
    Callee, Definition, Graph, Input, MapParameter, Model, Node, NodeKind, Output, Parameter, Primitive,
    PrimitiveKind, Symbol,
};
pub use open::OpenOptions;
pub use save::{Layout, SaveOptions, Saved};
pub use summary::{Collective, Summary};
pub use types::{CompositeKind, SequenceType, TensorType, Type};
pub use value::{
    Attributes, Functor, Monad, ObjectKind, QuantParam, RawTensor, ScalarGraph, ScalarNode, Value,
};
pub use weights::WeightFiles;
