//! Memory for buffers that are exchanged.
#![allow(unsafe_code, reason = "memory that is not from the allocator")]

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytemuck::AnyBitPattern;
use mslite_tensor::{Element, HostSpan};

/// Memory that other ranks reach: operations on buffers in it copy nothing in between, if the buffers of all members
/// that others read are such. Zeroed in the beginning.
///
/// It outlives its world, without being of further use to others.
///
/// ```
/// use mslite_collective::{CollectiveExt, Reduction, World};
///
/// # fn work(world: &World) -> mslite_collective::Result<()> {
/// let group = world.everybody();
/// if let Some(mut memory) = group.allocate(1024 * size_of::<f32>())? {
///     group.all_reduce(memory.as_mut_slice::<f32>(), Reduction::Sum)?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct RegisteredMemory {
    span: HostSpan,
    _owner: Arc<dyn Any + Send + Sync>,
}

impl RegisteredMemory {
    /// The bytes `span`, which stay valid as long as `owner`.
    pub fn new(span: HostSpan, owner: Arc<dyn Any + Send + Sync>) -> Self {
        RegisteredMemory { span, _owner: owner }
    }

    /// The bytes. They start at a page.
    pub fn span(&self) -> HostSpan {
        self.span
    }

    /// The bytes as elements, as many as fit. After an operation on them has failed, other ranks may still write to
    /// them for a while: then let go of them.
    pub fn as_mut_slice<T: Element + AnyBitPattern>(&mut self) -> &mut [T] {
        let count = self.span.len / size_of::<T>();
        // SAFETY: the owner keeps the bytes; they are aligned to a page, and any bytes make a `T`. Other ranks only
        // write during an operation on a slice of them, which borrows them.
        unsafe { std::slice::from_raw_parts_mut(self.span.ptr.cast().as_ptr(), count) }
    }
}

impl fmt::Debug for RegisteredMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredMemory").field("len", &self.span.len).finish_non_exhaustive()
    }
}
