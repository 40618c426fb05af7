//! The text form of graphs: `Display` writes it, `FromStr` reads it, and nothing is lost on the way.
//!
//! ```text
//! graph "mlp" {
//!   input %0 "x" : f32[batch, 3]
//!   state %1 "count" : i64[] = [0]
//!   constant %2 "weight" : f32[3, 2] = [1.0, 2.0, 3.0, 4.0, 5.0, -0.0]
//!   constant %3 "table" : u8[32] = hex:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
//!   %4 = matmul(activation=relu) %0, %2 : f32[batch, 2] @"Default/MatMul-op0"
//!   output "y" %4
//!   next %1 = %1
//! }
//! ```
//!
//! One item stands on each line, in the order of the graph; `#` begins a line of comment. Graphs inside operations
//! follow their node's line, which ends with `{`, up to a `}`. Attributes that are
//! `false` or absent are not written. Values may have any name made of letters, digits, `_` and `.`; types of
//! results may be left out where inference gives them, and origins where they are empty. Data is a list of
//! numbers (a NaN other than the usual one is `nan:` and its bits), or bytes in native order.

mod data;
mod dot;
mod field;
mod ops;
mod parse;
mod print;
mod scan;

pub use dot::Dot;
pub(crate) use ops::print as op_text;
pub use print::Summary;
