#![doc = include_str!("../README.md")]

pub mod backend;
mod error;
pub mod memory;
pub mod plan;
mod program;
mod region;
mod registry;
pub mod schedule;
mod session;

pub use backend::{
    Backend, Capability, Claim, CompileOptions, Device, DeviceInfo, DeviceOptions, Executable, Execution,
    Groups, Signature,
};
pub use error::{Error, ErrorKind, Result};
pub use plan::{Fallback, NamedDevice, Plan, Segment};
pub use region::Region;
pub use registry::Registry;
pub use session::{Session, SessionOptions};

/// Communicators, as [`Groups`] holds them.
pub use mslite_collective as collective;
/// Graphs, as devices claim and compile them.
pub use mslite_graph_opt as graph_opt;
/// Element types, shapes, tensors and buffers.
pub use mslite_tensor as tensor;
