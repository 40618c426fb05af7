#![doc = include_str!("../README.md")]

pub mod acl;
mod call;
mod comm;
pub mod cuda;
pub mod device;
pub mod faults;
pub mod hccl;
mod hub;
mod library;
mod link;
pub mod nccl;
mod numbers;

pub use library::Standins;
