//! How ranks find memory without a name: by process and descriptor.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::OFlags;

use super::layout::handle;
use super::memory::Region;
use crate::{Error, Result};

/// Regions that this process has made or opened, so that ranks that are threads share a mapping.
static OPEN: Mutex<Vec<(u64, Weak<Region>)>> = Mutex::new(Vec::new());

/// A place in shared memory that says where a region is.
#[derive(Clone, Copy)]
pub(crate) struct Handle<'a> {
    region: &'a Region,
    at: usize,
}

impl<'a> Handle<'a> {
    pub(crate) fn at(region: &'a Region, at: usize) -> Self {
        Handle { region, at }
    }

    /// Makes a region of `len` bytes that others can open while this process keeps it.
    pub(crate) fn create(self, len: usize) -> Result<Arc<Region>> {
        let region = Region::nameless(len)?;
        let mark = mark(region.file()).map_err(|e| Error::io("cannot examine shared memory", e))?;
        self.region.word(self.at + handle::PID).store(std::process::id(), Ordering::Relaxed);
        let descriptor = region.file().as_raw_fd().cast_unsigned();
        self.region.word(self.at + handle::DESCRIPTOR).store(descriptor, Ordering::Relaxed);
        self.region.wide(self.at + handle::MARK).store(mark, Ordering::Relaxed);
        Ok(remember(mark, region))
    }

    /// Opens the region that was made here. Fails when its process has let go of it.
    pub(crate) fn open(self, len: usize) -> std::io::Result<Arc<Region>> {
        let mark_here = self.region.wide(self.at + handle::MARK).load(Ordering::Relaxed);
        if let Some(region) = recall(mark_here) {
            return Ok(region);
        }
        let pid = self.region.word(self.at + handle::PID).load(Ordering::Relaxed);
        let descriptor = self.region.word(self.at + handle::DESCRIPTOR).load(Ordering::Relaxed);
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(flags);
        let file = file.open(format!("/proc/{pid}/fd/{descriptor}"))?;
        // The number may be another file's by now.
        if mark(&file)? != mark_here || file.metadata()?.len() < len as u64 {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let region = Region::of_file(file, len).map_err(std::io::Error::other)?;
        Ok(remember(mark_here, region))
    }
}

/// What no other file has while this one exists.
fn mark(file: &File) -> std::io::Result<u64> {
    let meta = file.metadata()?;
    Ok(meta.dev().rotate_left(48) ^ meta.ino())
}

fn remember(mark: u64, region: Region) -> Arc<Region> {
    let region = Arc::new(region);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|(_, region)| region.strong_count() > 0);
    open.push((mark, Arc::downgrade(&region)));
    region
}

fn recall(mark: u64) -> Option<Arc<Region>> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.iter().filter(|(m, _)| *m == mark).find_map(|(_, region)| region.upgrade())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_while_they_exist() {
        let place = Region::nameless(4096).unwrap();
        let handle = Handle::at(&place, 64);
        let region = handle.create(8192).unwrap();
        assert!(Arc::ptr_eq(&region, &handle.open(8192).unwrap()));
        let opened = {
            OPEN.lock().unwrap().clear();
            handle.open(8192).unwrap()
        };
        assert!(!Arc::ptr_eq(&region, &opened));
        region.word(128).store(7, Ordering::Release);
        assert_eq!(opened.word(128).load(Ordering::Acquire), 7);
        drop((region, opened));
        let _other = Region::nameless(8192).unwrap();
        assert!(handle.open(8192).is_err());
    }
}
