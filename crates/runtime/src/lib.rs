#![doc = include_str!("../README.md")]

pub mod backend;
mod error;
pub mod memory;

pub use backend::{
    Backend, Capability, Claim, CompileOptions, Device, DeviceInfo, DeviceOptions, Executable, Execution,
    Groups, Signature,
};
pub use error::{Error, ErrorKind, Result};
