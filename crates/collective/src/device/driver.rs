//! What a vendor's libraries must do for the groups here.

use std::fmt;
use std::sync::Arc;

use mslite_tensor::{DType, DeviceApi, HostSpan};

use super::Units;
use crate::{CollectiveKind, Group, Result};

/// Memory and streams of one device. Its functions may be called from any thread.
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    fn api(&self) -> DeviceApi;

    /// Address of new memory.
    fn allocate(&self, len: usize) -> Result<usize>;

    fn free(&self, address: usize);

    /// Copies, or enqueues a copy on a stream that has no other work. The host's bytes may be used until then.
    fn upload(&self, from: HostSpan, to: usize, stream: usize) -> Result<()>;

    /// Enqueues a copy, as [`upload`](Driver::upload).
    fn download(&self, from: usize, to: HostSpan, stream: usize) -> Result<()>;

    fn create_stream(&self) -> Result<usize>;

    fn destroy_stream(&self, stream: usize);

    /// Whether everything that was enqueued has finished.
    fn is_idle(&self, stream: usize) -> Result<bool>;
}

/// One rank's end of a group, as a library has it. Dropping it ends it in good order, as far as the others let it.
pub(crate) trait Communicator: fmt::Debug + Send {
    /// Enqueues an operation of at least one byte, or a barrier.
    fn issue(&mut self, task: &Task<'_>) -> Result<()>;

    /// This rank's part of a division of the group; all members take part.
    fn split(&mut self, part: Option<&Part<'_>>, wait: Wait<'_>) -> Result<Option<Box<dyn Communicator>>>;

    /// Fails when the library has noticed a failure.
    fn check(&self) -> Result<()>;

    /// Takes pending operations off their streams. Nothing but dropping comes after.
    fn abort(&mut self);

    /// What the vendor's compilers of graphs call the group, if it has a name.
    fn name(&self) -> Option<String>;
}

/// An operation in terms of a library.
pub(crate) struct Task<'a> {
    pub(crate) kind: &'a CollectiveKind,
    pub(crate) units: Units,
    /// Units of a block.
    pub(crate) count: usize,
    /// Address; 0 where nothing is given.
    pub(crate) send: usize,
    /// Address; 0 where nothing is taken.
    pub(crate) recv: usize,
    pub(crate) stream: usize,
    /// Address of [`SCRATCH`] bytes.
    pub(crate) scratch: usize,
    /// Place in the group.
    pub(crate) rank: usize,
    pub(crate) size: usize,
    pub(crate) wait: Wait<'a>,
}

/// Bytes on the device for what needs no buffers of the caller.
pub(crate) const SCRATCH: usize = 256;

/// Calls a function until it says that it is done, or somebody has a reason to give up.
pub(crate) type Wait<'a> = &'a dyn Fn(&dyn fmt::Display, &mut dyn FnMut() -> Result<bool>) -> Result<()>;

/// One of the parts in which a group is divided.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// Members, by their places in the group that is divided, in their new order; the first one names the part.
    pub(crate) ranks: &'a [usize],
    /// This rank's place among them.
    pub(crate) rank: usize,
    /// How many divisions came before.
    pub(crate) number: usize,
}

/// A vendor's libraries with one device.
pub(crate) trait Vendor: fmt::Debug + Send + Sync + 'static {
    fn driver(&self) -> &Arc<dyn Driver>;

    /// How the library does this; the text says why not.
    fn units(&self, kind: &CollectiveKind, dtype: DType) -> Result<Units, String>;

    /// Makes what the members need to find each other. Asked at the first of them.
    fn invite(&self, group: &Group) -> Result<Vec<u8>>;

    /// Joins the others.
    fn join(&self, group: &Group, invitation: &[u8], wait: Wait<'_>) -> Result<Box<dyn Communicator>>;
}
