#![doc = include_str!("../README.md")]

mod check;
mod config;
mod context;
mod model;
mod sessions;
mod status;
mod tensor;

pub use check::{CheckOptions, CheckReport, CheckedCollective, check};
pub use config::Config;
pub use context::{AscendSettings, Context, CpuSettings, GpuSettings, Ranks, Target};
pub use model::{BuildOptions, Model, ModelType, evaluator};
pub use mslite_collective::{Cancellation, TransportKind, World};
pub use mslite_graph_opt::pass::Level;
pub use mslite_mindir::{Key, Mode};
pub use mslite_runtime::memory::MemoryUsage;
pub use mslite_runtime::schedule::{Disagreement, Side};
pub use mslite_runtime::{Error, ErrorKind, Result};
pub use mslite_tensor::{DType, bf16, f16};
pub use status::StatusCode;
pub use tensor::Tensor;
