//! What the libraries of vendors have in common: groups whose operations a library enqueues on streams of a device,
//! while another world carries what is said between ranks.

mod call;
mod compare;
mod driver;
mod group;
#[allow(unsafe_code, reason = "functions of vendors' libraries are looked up by name")]
pub(crate) mod library;
mod memory;
mod transport;
mod wait;

pub(crate) use call::Units;
pub(crate) use driver::{Communicator, Driver, Part, Task, Vendor, Wait};
pub use memory::{DeviceBuffer, WatchedStream};
pub use transport::DeviceTransport;
pub(crate) use wait::wait_until;
