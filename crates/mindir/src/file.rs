//! Mapping of files into memory.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::{Error, Result};

/// The bytes of a file, mapped, not read.
///
/// # Errors
/// [`Error::Io`] when it cannot be opened or mapped, or is not a regular file.
pub(crate) fn map(path: &Path) -> Result<Bytes> {
    let fail = |action, source| Error::Io { file: path.to_owned(), action, source };
    let file = File::open(path).map_err(|source| fail("open", source))?;
    let metadata = file.metadata().map_err(|source| fail("inspect", source))?;
    if !metadata.is_file() {
        return Err(fail("map", io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    let mapping = map_file(&file).map_err(|source| fail("map", source))?;
    Ok(Bytes::from_owner(mapping))
}

#[allow(unsafe_code, reason = "the one place where files are mapped")]
fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the mapping is private and read-only. Another process that writes to or truncates a model file
    // while it is loaded breaks it, as it would for any program that maps files; `Model::open` says so.
    unsafe { memmap2::MmapOptions::new().map_copy_read_only(file) }
}
