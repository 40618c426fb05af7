//! Memory: files mapped into it, and large blocks of it.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};

use crate::{Error, OpenOptions, Result};

/// The bytes of a file, mapped, not read.
///
/// # Errors
/// [`Error::Io`] when it cannot be opened or mapped, or is not a regular file.
pub(crate) fn map(path: &Path, options: &OpenOptions) -> Result<Bytes> {
    let fail = |action, source| Error::Io { file: path.to_owned(), action, source };
    // Before opening, which would wait for a writer if it were a pipe.
    let metadata = path.metadata().map_err(|source| fail("open", source))?;
    if !metadata.is_file() {
        return Err(fail("map", io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    let file = File::open(path).map_err(|source| fail("open", source))?;
    let mapping = map_file(&file).map_err(|source| fail("map", source))?;
    if options.read_ahead {
        mapping.advise(Advice::WillNeed).map_err(|source| fail("read ahead", source))?;
    }
    if options.lock {
        mapping.lock().map_err(|source| fail("lock in memory", source))?;
    }
    Ok(Bytes::from_owner(mapping))
}

/// Zeroed memory of at least `size` bytes, in large pages where the system has them.
///
/// # Errors
/// When there is not enough memory.
pub(crate) fn allocate(size: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(size.max(1))?;
    // It only makes things faster.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(Advice::HugePage);
    Ok(memory)
}

#[allow(unsafe_code, reason = "the one place where files are mapped")]
fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only. Another process that writes to or truncates a model file
    // while it is loaded breaks it, as it would for any program that maps files; `Model::open` says so.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}
