use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use mslite_tensor::{Buffer, DType, Element, HostBuffer, HostSpan, HostStream, Stream, Tensor};

use crate::{CollectiveKind, CollectiveOp, Error, Group, Reduction, RegisteredMemory, Result};

/// One rank in one group.
///
/// All members enqueue the same operations in the same order; [`Send`](CollectiveKind::Send) and
/// [`Receive`](CollectiveKind::Receive) are only called by the two ranks concerned, and match by source,
/// destination and tag, in order. Calls from several threads take turns.
pub trait Collective: Any + fmt::Debug + Send + Sync {
    /// The group, and the place of this rank in it.
    fn group(&self) -> &Group;

    /// Whether [`enqueue`](Collective::enqueue) can do `op`. A pure function of the implementation and `op`, so
    /// that all ranks answer alike.
    fn supports(&self, op: &CollectiveOp) -> bool;

    /// Hands over what this rank contributes to `op`, as far as that takes no waiting, so that others need not wait for
    /// it. [`enqueue`](Collective::enqueue) of the same `op` and `send` must follow before any other operation of the
    /// group but messages; until then `send` stays as it is. By default all is left to `enqueue`.
    ///
    /// # Errors
    /// As [`enqueue`](Collective::enqueue).
    fn start(&self, op: &CollectiveOp, send: &dyn Buffer, stream: &dyn Stream) -> Result<()> {
        let _ = (op, send, stream);
        Ok(())
    }

    /// Starts `op` on `stream`, or goes on with what [`start`](Collective::start) began; the contract of [`Buffer`] says how long the buffers are in use. Sizes are as
    /// [`CollectiveKind`] says; a buffer that `op` does not use at this rank may be of any size and type, and the
    /// other one decides. `send` and `recv` do not overlap, except that the block of `recv` that this rank contributes, or the one of `send` that it takes,
    /// may be the other buffer.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when sizes, dtypes or ranks do not fit, [`Error::Unsupported`] for what this
    /// implementation or these buffers do not allow; the others when the peers fail, or later, from the stream.
    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<()>;

    /// Memory for buffers that this and other groups of the world exchange; `None` where it would not make them any
    /// faster. Takes time and a descriptor: for memory that is kept.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such memory.
    fn allocate(&self, len: usize) -> Result<Option<RegisteredMemory>> {
        let _ = len;
        Ok(None)
    }

    /// For whoever waits for a stream with operations of this group on it, again and again, with the time that it has
    /// waited so far. Fails when they will never finish: because a rank is lost, the library has noticed a failure,
    /// or the time is over. The operations are taken off the stream then. By default nothing fails.
    ///
    /// # Errors
    /// As [`enqueue`](Collective::enqueue).
    fn watch(&self, waited: Duration) -> Result<()> {
        let _ = waited;
        Ok(())
    }

    /// Gives the group up: pending and later operations fail at every member, with [`Error::PeerLost`] naming
    /// this rank at the others and [`Error::Aborted`] here. May be called from any thread, at any time.
    fn abort(&self);
}

/// Comforts over host memory: each waits until the operation has finished.
///
/// Errors are those of [`Collective::enqueue`]. Slices exclude `bool`, since other processes write them; use
/// [`run`](CollectiveExt::run) with tensors.
pub trait CollectiveExt: Collective {
    /// Runs an operation on tensors.
    ///
    /// # Errors
    /// As [`Collective::enqueue`]; also when the bytes of `recv` are shared.
    fn run(&self, kind: CollectiveKind, send: &Tensor, recv: &mut Tensor) -> Result<()> {
        let recv = HostBuffer::writing(recv).map_err(|e| Error::InvalidArgument(e.to_string()))?;
        enqueue_and_wait(self, kind, &HostBuffer::reading(send), &recv)
    }

    /// Replaces `data` by the reduction over all ranks.
    fn all_reduce<T: Element + AnyBitPattern>(&self, data: &mut [T], reduction: Reduction) -> Result<()> {
        let data = SliceBuffer::writing(data);
        enqueue_and_wait(self, CollectiveKind::AllReduce(reduction), &data, &data)
    }

    /// Concatenates everybody's `send` in `recv`.
    fn all_gather<T: Element + AnyBitPattern>(&self, send: &[T], recv: &mut [T]) -> Result<()> {
        run_slices(self, CollectiveKind::AllGather, send, recv)
    }

    /// Reduces block by block and keeps the block of this rank.
    fn reduce_scatter<T: Element + AnyBitPattern>(
        &self,
        send: &[T],
        recv: &mut [T],
        reduction: Reduction,
    ) -> Result<()> {
        run_slices(self, CollectiveKind::ReduceScatter(reduction), send, recv)
    }

    /// Replaces `data` by that of rank `root`.
    fn broadcast<T: Element + AnyBitPattern>(&self, data: &mut [T], root: usize) -> Result<()> {
        let data = SliceBuffer::writing(data);
        enqueue_and_wait(self, CollectiveKind::Broadcast { root }, &data, &data)
    }

    /// Sends block `j` to rank `j` and takes block `i` from rank `i`.
    fn all_to_all<T: Element + AnyBitPattern>(&self, send: &[T], recv: &mut [T]) -> Result<()> {
        run_slices(self, CollectiveKind::AllToAll, send, recv)
    }

    /// Sends `data` to rank `dest`.
    fn send<T: Element + AnyBitPattern>(&self, data: &[T], dest: usize, tag: i64) -> Result<()> {
        run_slices(self, CollectiveKind::Send { dest, tag }, data, &mut [])
    }

    /// Fills `data` with what rank `src` sends.
    fn receive<T: Element + AnyBitPattern>(&self, data: &mut [T], src: usize, tag: i64) -> Result<()> {
        run_slices(self, CollectiveKind::Receive { src, tag }, &[], data)
    }

    /// Waits for everybody.
    fn barrier(&self) -> Result<()> {
        run_slices::<u8, Self>(self, CollectiveKind::Barrier, &[], &mut [])
    }
}

impl<C: Collective + ?Sized> CollectiveExt for C {}

fn run_slices<T: Element, C: Collective + ?Sized>(
    collective: &C,
    kind: CollectiveKind,
    send: &[T],
    recv: &mut [T],
) -> Result<()> {
    enqueue_and_wait(collective, kind, &SliceBuffer::reading(send), &SliceBuffer::writing(recv))
}

fn enqueue_and_wait<C: Collective + ?Sized>(
    collective: &C,
    kind: CollectiveKind,
    send: &dyn Buffer,
    recv: &dyn Buffer,
) -> Result<()> {
    let op = CollectiveOp { kind, group: collective.group().name.clone() };
    collective.enqueue(&op, send, recv, &HostStream)
}

/// A borrowed slice as a buffer; it is used only while the borrow lasts.
#[derive(Debug)]
struct SliceBuffer {
    dtype: DType,
    dims: [usize; 1],
    span: HostSpan,
}

impl SliceBuffer {
    fn reading<T: Element>(slice: &[T]) -> Self {
        let span = HostSpan { ptr: NonNull::from(slice).cast(), len: size_of_val(slice) };
        SliceBuffer { dtype: T::DTYPE, dims: [slice.len()], span }
    }

    fn writing<T: Element>(slice: &mut [T]) -> Self {
        let (len, dims) = (size_of_val(slice), [slice.len()]);
        let span = HostSpan { ptr: NonNull::from(slice).cast(), len };
        SliceBuffer { dtype: T::DTYPE, dims, span }
    }
}

impl Buffer for SliceBuffer {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        Some(self.span)
    }
}
