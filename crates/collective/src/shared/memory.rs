//! Memory that several ranks see at once. This is the module that opts out of `unsafe_code = "deny"`: a mapping
//! and the spans of buffers are addresses, and whoever reads or writes them is ordered by counters in the
//! mapping, not by borrows.
#![allow(unsafe_code, reason = "memory shared between processes cannot be borrowed")]

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64};

use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::{MmapOptions, MmapRaw};
use mslite_tensor::HostSpan;

use crate::{Error, Result};

/// A mapping that all ranks share: of a file, or private to a process whose threads are the ranks.
#[derive(Debug)]
pub(crate) struct Region {
    map: MmapRaw,
    file: Option<File>,
}

impl Region {
    /// A region for threads of this process, zeroed.
    pub(crate) fn anonymous(len: usize) -> Result<Self> {
        let map = MmapOptions::new().len(len).no_reserve_swap().map_anon();
        let map = map.map_err(|e| Error::io(format!("cannot map {len} bytes"), e))?;
        Ok(Region { map: map.into(), file: None })
    }

    /// The first `len` bytes of a file that has at least as many.
    pub(crate) fn of_file(file: File, len: usize) -> Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(&file);
        let map = map.map_err(|e| Error::io(format!("cannot map {len} bytes"), e))?;
        Ok(Region { map, file: Some(file) })
    }

    /// The file behind it, if ranks are processes.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// A shared 32-bit word.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        let ptr = self.address(offset, 4, 4).cast::<u32>();
        // SAFETY: the address is inside the mapping, which `self` keeps, and aligned; every process accesses
        // words of the mapping atomically.
        unsafe { AtomicU32::from_ptr(ptr) }
    }

    /// A shared 64-bit word.
    pub(crate) fn wide(&self, offset: usize) -> &AtomicU64 {
        let ptr = self.address(offset, 8, 8).cast::<u64>();
        // SAFETY: as for `word`.
        unsafe { AtomicU64::from_ptr(ptr) }
    }

    /// A part of the region, for copying.
    pub(crate) fn span(&self, offset: usize, len: usize) -> Span {
        Span { ptr: self.address(offset, len, 1), len }
    }

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

impl Span {
    /// The bytes of a slice, which the caller does not touch while the span is used.
    pub(crate) fn of_slice(bytes: &mut [u8]) -> Span {
        Span { ptr: bytes.as_mut_ptr(), len: bytes.len() }
    }

    /// Number of bytes.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Address of the first byte.
    pub(crate) fn address(self) -> usize {
        self.ptr as usize
    }

    /// Some of the bytes.
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
    pub(crate) fn copy_from(self, source: Span) {
        assert_eq!(self.len, source.len, "copies have equal lengths");
        if self.ptr == source.ptr {
            return;
        }
        // SAFETY: both spans are valid for their lengths (regions by construction, buffers by the contract of
        // `Buffer`), and nobody else touches them now, by that contract and by the counters of the region.
        unsafe { std::ptr::copy(source.ptr, self.ptr, self.len) }
    }

    /// Copies the bytes into values of exactly as many bytes.
    pub(crate) fn read<T: AnyBitPattern + NoUninit>(self, values: &mut [T]) {
        assert_eq!(self.len, size_of_val(values), "copies have equal lengths");
        // SAFETY: as for `copy_from`; any bytes make a `T`, and `values` is borrowed exclusively.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr, values.as_mut_ptr().cast(), self.len) }
    }

    /// Copies values of exactly as many bytes.
    pub(crate) fn write<T: NoUninit>(self, values: &[T]) {
        assert_eq!(self.len, size_of_val(values), "copies have equal lengths");
        // SAFETY: as for `copy_from`; a `T` has no uninitialised bytes.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), self.ptr, self.len) }
    }
}
