//! Memory that several ranks see at once. This is the module that opts out of `unsafe_code = "deny"`: a mapping
//! and the spans of buffers are addresses, and whoever reads or writes them is ordered by counters in the
//! mapping, not by borrows.
#![allow(unsafe_code, reason = "memory shared between processes cannot be borrowed")]

use std::fs::File;
use std::ops::Range;
use std::ptr::NonNull;

use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::{MmapOptions, MmapRaw};
use mslite_tensor::HostSpan;
use rustix::fs::{MemfdFlags, memfd_create};

use super::sync::{self, AtomicU32, AtomicU64, note_read, note_write};
use crate::{Error, Result};

/// A mapping of a file that several ranks share.
#[derive(Debug)]
pub(crate) struct Region {
    map: MmapRaw,
    file: File,
}

impl Region {
    /// Memory without a name, zeroed, which other processes open by the number of its descriptor.
    pub(crate) fn nameless(len: usize) -> Result<Self> {
        let file = memfd_create("mslite", MemfdFlags::CLOEXEC).map_err(std::io::Error::from);
        let file = file.map(File::from).and_then(|file| file.set_len(len as u64).map(|()| file));
        let file = file.map_err(|e| Error::io(format!("cannot make {len} bytes of shared memory"), e))?;
        Region::of_file(file, len)
    }

    /// The first `len` bytes of a file that has at least as many.
    pub(crate) fn of_file(file: File, len: usize) -> Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(&file);
        let map = map.map_err(|e| Error::io(format!("cannot map {len} bytes"), e))?;
        Ok(Region { map, file })
    }

    /// The file behind it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// A shared 32-bit word.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        let ptr = self.address(offset, 4, 4).cast::<u32>();
        // SAFETY: the address is inside the mapping, which `self` keeps, and aligned; every process accesses
        // words of the mapping atomically.
        unsafe { sync::word(ptr) }
    }

    /// A shared 64-bit word.
    #[inline]
    pub(crate) fn wide(&self, offset: usize) -> &AtomicU64 {
        let ptr = self.address(offset, 8, 8).cast::<u64>();
        // SAFETY: as for `word`.
        unsafe { sync::wide(ptr) }
    }

    /// A part of the region, for copying.
    #[inline]
    pub(crate) fn span(&self, offset: usize, len: usize) -> Span {
        Span { ptr: self.address(offset, len, 1), len }
    }

    #[inline]
    fn address(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        let end = offset.checked_add(len).expect("offsets in a region do not overflow");
        assert!(end <= self.len() && offset.is_multiple_of(align), "{offset}+{len} is outside the region");
        self.map.as_mut_ptr().wrapping_add(offset)
    }
}

/// Addressable bytes, of a region or of a buffer. Copies go through raw pointers and need no alignment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    ptr: *mut u8,
    len: usize,
}

impl From<HostSpan> for Span {
    fn from(span: HostSpan) -> Self {
        Span { ptr: span.ptr.as_ptr(), len: span.len }
    }
}

impl From<Span> for HostSpan {
    fn from(span: Span) -> Self {
        HostSpan { ptr: NonNull::new(span.ptr).unwrap_or(NonNull::dangling()), len: span.len }
    }
}

/// Bytes of a line of the caches.
const LINE: usize = 64;

impl Span {
    /// No bytes.
    pub(crate) const EMPTY: Span = Span { ptr: NonNull::dangling().as_ptr(), len: 0 };

    /// The bytes of a slice, which the caller does not touch while the span is used.
    pub(crate) fn of_slice(bytes: &mut [u8]) -> Span {
        Span { ptr: bytes.as_mut_ptr(), len: bytes.len() }
    }

    /// Bytes of this process, which the caller knows to be there.
    pub(crate) fn at(address: usize, len: usize) -> Span {
        Span { ptr: std::ptr::with_exposed_provenance_mut(address), len }
    }

    /// Whether two spans have bytes in common.
    pub(crate) fn overlaps(self, other: Span) -> bool {
        let ends_before = |a: Span, b: Span| a.address() + a.len <= b.address();
        !ends_before(self, other) && !ends_before(other, self) && self.len > 0 && other.len > 0
    }

    /// Number of bytes.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Address of the first byte.
    pub(crate) fn address(self) -> usize {
        self.ptr.expose_provenance()
    }

    /// Some of the bytes.
    #[inline]
    pub(crate) fn part(self, range: Range<usize>) -> Span {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is outside {}", self.len);
        Span { ptr: self.ptr.wrapping_add(range.start), len: range.len() }
    }

    /// The part with number `index` of `count` equal parts.
    pub(crate) fn block(self, index: usize, count: usize) -> Span {
        let len = self.len / count;
        self.part(index * len..(index + 1) * len)
    }

    /// Copies all bytes of `source`, which has the same length and may overlap.
    #[inline]
    pub(crate) fn copy_from(self, source: Span) {
        assert_eq!(self.len, source.len, "copies have equal lengths");
        if self.ptr == source.ptr {
            return;
        }
        note_read(source.ptr, self.len);
        note_write(self.ptr, self.len);
        // SAFETY: both spans are valid for their lengths (regions by construction, buffers by the contract of
        // `Buffer`), and nobody else touches them now, by that contract and by the counters of the region.
        unsafe { std::ptr::copy(source.ptr, self.ptr, self.len) }
    }

    /// Copies the bytes into values of exactly as many bytes.
    pub(crate) fn read<T: AnyBitPattern + NoUninit>(self, values: &mut [T]) {
        assert_eq!(self.len, size_of_val(values), "copies have equal lengths");
        note_read(self.ptr, self.len);
        // SAFETY: as for `copy_from`; any bytes make a `T`, and `values` is borrowed exclusively.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr, values.as_mut_ptr().cast(), self.len) }
    }

    /// Whether it starts where a line of a cache does.
    pub(crate) fn starts_a_line(self) -> bool {
        self.address().is_multiple_of(LINE)
    }

    /// The `N` values from number `at` on.
    #[inline(always)]
    pub(crate) fn get<T: AnyBitPattern, const N: usize>(self, at: usize) -> [T; N] {
        self.check(at * size_of::<T>(), size_of::<[T; N]>());
        note_read(self.ptr.wrapping_add(at * size_of::<T>()), size_of::<[T; N]>());
        // SAFETY: as for `copy_from`; any bytes make a `T`.
        unsafe { self.ptr.add(at * size_of::<T>()).cast::<[T; N]>().read_unaligned() }
    }

    /// Writes `N` values from number `at` on.
    #[inline(always)]
    pub(crate) fn set<T: NoUninit, const N: usize>(self, at: usize, values: [T; N]) {
        self.check(at * size_of::<T>(), size_of::<[T; N]>());
        note_write(self.ptr.wrapping_add(at * size_of::<T>()), size_of::<[T; N]>());
        // SAFETY: as for `copy_from`.
        unsafe { self.ptr.add(at * size_of::<T>()).cast::<[T; N]>().write_unaligned(values) }
    }

    /// Writes `N` values from number `at` on, past the caches if they fill whole lines. Others see them after
    /// [`Span::end_streams`].
    #[inline(always)]
    pub(crate) fn stream<T: NoUninit, const N: usize>(self, at: usize, values: [T; N]) {
        if !size_of::<[T; N]>().is_multiple_of(LINE) || !cfg!(target_arch = "x86_64") {
            return self.set(at, values);
        }
        self.check(at * size_of::<T>(), size_of::<[T; N]>());
        note_write(self.ptr.wrapping_add(at * size_of::<T>()), size_of::<[T; N]>());
        // SAFETY: as for `copy_from`; the address is that of a line, as those of the span and of the values' number are.
        unsafe {
            stream_lines(values.as_ptr().cast(), self.ptr.add(at * size_of::<T>()), size_of::<[T; N]>())
        }
    }

    /// Has what was streamed go to memory before what is written next.
    pub(crate) fn end_streams() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every processor of this architecture has it.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }

    #[inline(always)]
    fn check(self, start: usize, len: usize) {
        if start + len > self.len {
            outside(start, len, self.len);
        }
    }

    /// Copies values of exactly as many bytes.
    pub(crate) fn write<T: NoUninit>(self, values: &[T]) {
        assert_eq!(self.len, size_of_val(values), "copies have equal lengths");
        note_write(self.ptr, self.len);
        // SAFETY: as for `copy_from`; a `T` has no uninitialised bytes.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), self.ptr, self.len) }
    }
}

/// Apart, so that a loop keeps nothing in memory for this.
#[cold]
#[inline(never)]
fn outside(start: usize, len: usize, all: usize) -> ! {
    panic!("{start}+{len} is outside {all}")
}

/// Writes whole lines with stores that do not fetch them.
///
/// # Safety
/// Both are valid for `len` bytes, and do not overlap; `out` is the address of a line.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn stream_lines(source: *const u8, out: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    for at in (0..len).step_by(size_of::<__m128i>()) {
        // SAFETY: the caller's.
        unsafe { _mm_stream_si128(out.add(at).cast(), _mm_loadu_si128(source.add(at).cast::<__m128i>())) };
    }
}

/// Writes bytes, where there are no such stores.
///
/// # Safety
/// Both are valid for `len` bytes, and do not overlap.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn stream_lines(source: *const u8, out: *mut u8, len: usize) {
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(source, out, len) }
}
