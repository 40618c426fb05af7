#![doc = include_str!("../README.md")]

mod arena;
mod backend;
mod buffers;
mod constants;
mod crew;
mod evaluate;
mod execution;
mod kernels;
mod loops;
mod plan;
mod scalar;
mod simd;
mod stages;

pub use backend::CpuBackend;
pub use evaluate::{CpuEvaluator, evaluate};
