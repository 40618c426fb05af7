pub mod cases;
mod compare;
pub mod npz;
pub mod reference;

pub use compare::{Mismatch, Tolerance, Value, assert_close, compare};
