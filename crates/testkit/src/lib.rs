#![doc = include_str!("../README.md")]

mod allocations;
pub mod backend;
pub mod cases;
pub mod collective;
mod compare;
mod generate;
pub mod reference;
mod suite;

pub use allocations::CountingAllocator;
pub use backend::backend_main;
pub use collective::collective_main;
pub use compare::{Difference, Mismatch, Tolerance, Value, assert_close, compare, distance};
pub use generate::Generator;
pub use mslite_tensor::npz;
