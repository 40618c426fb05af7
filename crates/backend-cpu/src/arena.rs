//! Memory of a run, and the slices that kernels see of it.

use std::ptr::NonNull;

use bytemuck::{Pod, Zeroable};
use mslite_collective::{Collective, RegisteredMemory};
use mslite_runtime::{Error, ErrorKind, Result};
use mslite_tensor::{Buffer, DType, HostSpan, TensorSpec, num_elements};

use crate::crew::Team;
use crate::scalar::Scalar;

use views::bytes_of;
pub(crate) use views::{Args, copy_bytes};

/// Part of a span: `offset..offset + len`, in bytes, of the span numbered `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) base: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Place {
    fn overlaps(&self, other: &Place) -> bool {
        self.base == other.base
            && self.len > 0
            && other.len > 0
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}

/// The memory of a run, which places refer to by number: the arena, then constants, inputs and outputs.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    table: Vec<HostSpan>,
    /// Number of the first output.
    outputs: usize,
}

impl Spans {
    /// Begins the table of a run.
    pub(crate) fn begin(&mut self, arena: &mut [u8], constants: impl Iterator<Item = HostSpan>) {
        self.table.clear();
        self.table.push(HostSpan { len: arena.len(), ptr: NonNull::from(arena).cast() });
        self.table.extend(constants);
        self.outputs = self.table.len();
    }

    /// Appends an input; one that is not aligned is copied to `staged`.
    ///
    /// # Errors
    /// `InvalidArgument` when the buffer's bytes are not in host memory, `OutOfMemory`.
    pub(crate) fn input(&mut self, buffer: &dyn Buffer, staged: &mut Memory) -> Result<()> {
        let mut span = host_span(buffer)?;
        if !is_aligned(&span, buffer.dtype()) {
            if staged.len() < span.len {
                *staged = Memory::zeroed(span.len)?;
            }
            // Nobody writes an input while the run is enqueued, by `Buffer`'s contract.
            staged.bytes_mut()[..span.len].copy_from_slice(bytes_of(&span));
            span = HostSpan { len: span.len, ..staged.span() };
        }
        self.table.push(span);
        self.outputs = self.table.len();
        Ok(())
    }

    /// Appends an output, after all inputs.
    ///
    /// # Errors
    /// `InvalidArgument` when the buffer's bytes are not in host memory, not aligned, or overlap others.
    pub(crate) fn output(&mut self, buffer: &dyn Buffer) -> Result<()> {
        let span = host_span(buffer)?;
        let refuse = |what: &str| Err(Error::new(ErrorKind::InvalidArgument, what));
        if !is_aligned(&span, buffer.dtype()) {
            return refuse("the buffer of an output is not aligned for its elements");
        }
        if self.table.iter().any(|other| spans_overlap(&span, other)) {
            return refuse("the buffer of an output overlaps that of an input or another output");
        }
        self.table.push(span);
        Ok(())
    }
}

fn host_span(buffer: &dyn Buffer) -> Result<HostSpan> {
    let size = num_elements(buffer.dims()).and_then(|n| n.checked_mul(buffer.dtype().size()));
    match buffer.host().zip(size) {
        Some((_, 0)) => Ok(empty_span()),
        Some((span, size)) if size <= span.len => Ok(HostSpan { len: size, ..span }),
        _ => {
            let spec = TensorSpec::fixed(buffer.dtype(), buffer.dims());
            let reason = format!("the bytes of a buffer of {spec} are not all in host memory");
            Err(Error::new(ErrorKind::InvalidArgument, reason))
        }
    }
}

/// The numbers in a buffer of i64.
///
/// # Errors
/// `InvalidArgument` when its bytes are not in host memory.
pub(crate) fn read_ints(buffer: &dyn Buffer) -> Result<Vec<i64>> {
    let span = host_span(buffer)?;
    Ok(bytes_of(&span).chunks_exact(8).map(bytemuck::pod_read_unaligned).collect())
}

/// Where a kernel reads and writes. What it writes overlaps nothing else, but one operand may be the memory of the
/// first result: that one is not read as a slice of its own.
#[derive(Debug)]
pub(crate) struct Operands {
    inputs: Box<[Place]>,
    /// The operand that is the memory of the first result.
    in_place: Option<usize>,
    /// The results, then the scratch memory.
    outputs: Box<[Place]>,
}

impl Operands {
    /// # Errors
    /// [`ErrorKind::Internal`] when something that is written overlaps something else.
    pub(crate) fn new(
        inputs: Vec<Place>,
        mut results: Vec<Place>,
        scratch: Place,
        in_place: Option<usize>,
    ) -> Result<Self> {
        let moved = in_place.is_some_and(|operand| inputs[operand] != results[0]);
        results.push(scratch);
        let apart =
            || inputs.iter().enumerate().filter(|(i, _)| in_place != Some(*i)).map(|(_, place)| place);
        let clash = results
            .iter()
            .enumerate()
            .any(|(i, a)| results[..i].iter().chain(apart()).any(|b| a.overlaps(b)));
        if clash || moved {
            return Err(Error::new(ErrorKind::Internal, "the plan lets a kernel overwrite its operands"));
        }
        Ok(Operands { inputs: inputs.into(), in_place, outputs: results.into() })
    }
}

/// The elements of an operand that a kernel reads one after the other, each before it writes the same element of its
/// first result.
#[derive(Clone, Copy)]
pub(crate) enum Elements<X> {
    /// Elsewhere than the result.
    Apart(X),
    /// What the result holds before it is written.
    Result,
}

impl<T: Scalar> Elements<&[T]> {
    /// The elements from `at` on that become `result`, in the type they are computed in; `buffer` has room for them.
    pub(crate) fn load<'b>(&'b self, at: usize, result: &[T], buffer: &'b mut [T::Work]) -> &'b [T::Work] {
        match self {
            Elements::Apart(x) => T::load(&x[at..at + result.len()], buffer),
            Elements::Result => T::copy(result, buffer),
        }
    }
}

/// Memory of 64-byte alignment.
pub(crate) enum Memory {
    Own(Box<[Line]>),
    /// Memory that other ranks reach.
    Registered(RegisteredMemory),
}

impl Default for Memory {
    fn default() -> Self {
        Memory::Own(Box::default())
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Memory {
    /// Zeroed memory.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`].
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        let lines = bytemuck::allocation::try_zeroed_slice_box(bytes.div_ceil(64)).map_err(|()| {
            Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {bytes} bytes for a run"))
        })?;
        Ok(Memory::Own(lines))
    }

    /// Zeroed memory for buffers that are exchanged in a group, without copies if the group has such memory.
    ///
    /// # Errors
    /// As [`Memory::zeroed`].
    pub(crate) fn exchanged(bytes: usize, group: Option<&dyn Collective>) -> Result<Self> {
        let registered = group.and_then(|group| group.allocate(bytes.next_multiple_of(64)).ok().flatten());
        registered.map_or_else(|| Memory::zeroed(bytes), |memory| Ok(Memory::Registered(memory)))
    }

    /// An aligned copy of bytes.
    ///
    /// # Errors
    /// As [`Memory::zeroed`].
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Self> {
        let mut memory = Memory::zeroed(bytes.len())?;
        memory.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(memory)
    }

    /// Number of bytes, rounded up to whole lines.
    pub(crate) fn len(&self) -> usize {
        match self {
            Memory::Own(lines) => lines.len() * 64,
            Memory::Registered(memory) => memory.span().len,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Own(lines) => bytemuck::cast_slice_mut(lines),
            Memory::Registered(memory) => memory.as_mut_slice(),
        }
    }

    /// Its address, for reading.
    pub(crate) fn span(&self) -> HostSpan {
        match self {
            Memory::Own(lines) => HostSpan { ptr: NonNull::from(&**lines).cast(), len: self.len() },
            Memory::Registered(memory) => memory.span(),
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes)", self.len())
    }
}

/// Whether an address suits elements of a type.
pub(crate) fn is_aligned(span: &HostSpan, dtype: DType) -> bool {
    let alignment = match dtype {
        DType::C64 => 4,
        DType::C128 => 8,
        other => other.size(),
    };
    span.len == 0 || span.ptr.as_ptr().addr().is_multiple_of(alignment)
}

/// The bytes at an address as they are in a span of no length.
pub(crate) fn empty_span() -> HostSpan {
    HostSpan { ptr: NonNull::<Line>::dangling().cast(), len: 0 }
}

/// Whether two spans share a byte.
pub(crate) fn spans_overlap(a: &HostSpan, b: &HostSpan) -> bool {
    let (x, y) = (a.ptr.as_ptr().addr(), b.ptr.as_ptr().addr());
    a.len > 0 && b.len > 0 && x < y + b.len && y < x + a.len
}

#[allow(unsafe_code, reason = "the slices of a run come from one table of spans; the plan keeps them apart")]
mod views {
    use mslite_tensor::HostBuffer;

    use smallvec::{SmallVec, smallvec};

    use super::{
        Buffer, DType, Elements, Error, ErrorKind, HostSpan, Operands, Place, Pod, Result, Spans, Team,
        host_span,
    };

    /// What a kernel gets: its operands, its results, scratch memory, and the threads.
    pub(crate) struct Args<'a> {
        spans: &'a [HostSpan],
        operands: &'a Operands,
        taken: SmallVec<[bool; 8]>,
        pub(crate) team: &'a Team<'a>,
    }

    impl<'a> Args<'a> {
        /// The arguments of a step of a run.
        ///
        /// # Panics
        /// When the step would write anything but the arena and the outputs.
        pub(crate) fn new(spans: &'a Spans, operands: &'a Operands, team: &'a Team<'a>) -> Self {
            let writable = |place: &Place| place.base == 0 || place.base >= spans.outputs;
            assert!(operands.outputs.iter().all(writable), "steps write the arena and the outputs");
            Args { spans: &spans.table, operands, taken: smallvec![false; operands.outputs.len()], team }
        }

        /// The elements of an operand.
        ///
        /// # Panics
        /// When they are not aligned.
        pub(crate) fn input<T: Pod>(&self, index: usize) -> &'a [T] {
            bytemuck::cast_slice(self.input_bytes(index))
        }

        /// The elements of an operand that may lie where the first result does.
        ///
        /// # Panics
        /// When they are not aligned.
        pub(crate) fn elements<T: Pod>(&self, index: usize) -> Elements<&'a [T]> {
            match self.operands.in_place == Some(index) {
                true => Elements::Result,
                false => Elements::Apart(self.input(index)),
            }
        }

        /// The bytes of an operand.
        ///
        /// # Panics
        /// When they are the memory of the first result.
        pub(crate) fn input_bytes(&self, index: usize) -> &'a [u8] {
            assert_ne!(
                self.operands.in_place,
                Some(index),
                "an operand in the result's memory is read there"
            );
            let span = self.resolve(&self.operands.inputs[index]);
            // SAFETY: the table has live spans by `Buffer`'s contract; what this step writes does not overlap the place,
            // by `Operands::new` within a span and by `Spans::output` across spans; nobody else writes meanwhile.
            unsafe { std::slice::from_raw_parts(span.ptr.as_ptr(), span.len) }
        }

        /// The elements of a result, once.
        ///
        /// # Panics
        /// The second time.
        pub(crate) fn output<T: Pod>(&mut self, index: usize) -> &'a mut [T] {
            assert!(index + 1 < self.operands.outputs.len(), "the result exists");
            bytemuck::cast_slice_mut(self.take(index))
        }

        /// The bytes of a result, once.
        pub(crate) fn output_bytes(&mut self, index: usize) -> &'a mut [u8] {
            self.output(index)
        }

        /// The scratch memory that the kernel asked for, once. It holds anything.
        pub(crate) fn scratch<T: Pod>(&mut self) -> &'a mut [T] {
            bytemuck::cast_slice_mut(self.take(self.operands.outputs.len() - 1))
        }

        /// An operand as a buffer, which may be the memory of the first result.
        pub(crate) fn input_buffer(&self, index: usize, dtype: DType, dims: &[usize]) -> HostBuffer {
            let span = self.resolve(&self.operands.inputs[index]);
            // SAFETY: the plan's places have the size of the tensor, and the buffer lives no longer than the step.
            unsafe { HostBuffer::from_span(dtype, dims, span) }
        }

        /// A result as a buffer, once.
        pub(crate) fn output_buffer(&mut self, index: usize, dtype: DType, dims: &[usize]) -> HostBuffer {
            self.claim(index);
            let span = self.resolve(&self.operands.outputs[index]);
            // SAFETY: as above; the claim keeps slices of the same result away.
            unsafe { HostBuffer::from_span(dtype, dims, span) }
        }

        /// A buffer of no elements.
        pub(crate) fn empty_buffer() -> HostBuffer {
            // SAFETY: no bytes are read or written.
            unsafe { HostBuffer::from_span(DType::U8, &[0], super::empty_span()) }
        }

        fn take(&mut self, index: usize) -> &'a mut [u8] {
            self.claim(index);
            let span = self.resolve(&self.operands.outputs[index]);
            // SAFETY: as for operands; only the arena and the outputs get here, which this run alone may write;
            // `claim` hands each place out once, and `Operands::new` keeps places apart.
            unsafe { std::slice::from_raw_parts_mut(span.ptr.as_ptr(), span.len) }
        }

        fn claim(&mut self, index: usize) {
            assert!(!self.taken[index], "a result is taken once");
            self.taken[index] = true;
        }

        fn resolve(&self, place: &Place) -> HostSpan {
            let span = &self.spans[place.base];
            assert!(place.offset + place.len <= span.len, "places lie inside their spans");
            // SAFETY: the offset lies inside the span, as just checked.
            let ptr = unsafe { span.ptr.add(place.offset) };
            HostSpan { ptr, len: place.len }
        }
    }

    /// Copies the bytes of a buffer to another one.
    ///
    /// # Errors
    /// `InvalidArgument` when bytes are not in host memory, or of another number.
    pub(crate) fn copy_bytes(from: &dyn Buffer, to: &dyn Buffer) -> Result<()> {
        let (from, to) = (host_span(from)?, host_span(to)?);
        if from.len != to.len {
            let reason = format!("{} bytes do not fit an output of {}", from.len, to.len);
            return Err(Error::new(ErrorKind::InvalidArgument, reason));
        }
        // SAFETY: both spans are live by `Buffer`'s contract, which also keeps all others away while the run is
        // enqueued; `copy` allows that they are the same.
        unsafe { std::ptr::copy(from.ptr.as_ptr(), to.ptr.as_ptr(), from.len) };
        Ok(())
    }

    /// The bytes of an input's span.
    pub(super) fn bytes_of(span: &HostSpan) -> &[u8] {
        // SAFETY: a span of a buffer is valid, and nobody writes it while the run is enqueued, by `Buffer`'s contract.
        unsafe { std::slice::from_raw_parts(span.ptr.as_ptr(), span.len) }
    }
}
