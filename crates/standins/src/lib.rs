#![doc = include_str!("../README.md")]

mod comm;
pub mod cuda;
pub mod device;
pub mod faults;
mod hub;
mod library;
mod link;
pub mod nccl;
mod numbers;

pub use library::Standins;
