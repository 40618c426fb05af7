#![doc = include_str!("../README.md")]

mod error;
mod export;
mod import;
pub mod infer;
pub mod ir;
pub mod pass;
mod specialise;
pub mod text;

pub use error::{Error, Result};
pub use export::export;
pub use import::{ImportOptions, alternative, import, import_inputs};
pub use ir::{Graph, GraphBuilder, NodeId, Op, ValueId};
pub use specialise::{specialise, specialise_within};
