//! How ranks meet: processes in a file that bears the rendezvous' name until the last has come, threads in memory
//! without a name.
//!
//! Whoever looks at the file or changes it holds its lock, which the system releases if the holder dies. The
//! name is removed before the ranks are told that all have come; after that, the memory goes with the last
//! process that maps it, however that ends.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};

use super::failure::FailureRecord;
use super::layout::{MAGIC, MAX_RANKS, MEETING_LEN, header, rank as slot, rank_slot};
use super::member::{ABSENT, JOINED, Member, loss, lost};
use super::memory::Region;
use super::process::{Process, start_time};
use super::wait::{Counter, Patience};
use crate::{Cancellation, Error, JoinOptions, Result, Tuning};

/// The members of a world of threads.
pub(crate) fn threads(size: usize, timeout: Duration) -> Result<Vec<Member>> {
    check_size(size)?;
    let region = Arc::new(Region::nameless(MEETING_LEN)?);
    let (patience, tuning) = (Patience::new(size), Tuning::untuned(size));
    let member = |rank| {
        sign_in(&region, rank);
        let peers = (0..size).map(|_| None).collect();
        let (region, placed) = (Arc::clone(&region), RwLock::default());
        let cancellation = Cancellation::new();
        let is_one_process = true;
        Member { region, rank, size, timeout, patience, tuning, cancellation, peers, is_one_process, placed }
    };
    Ok((0..size).map(member).collect())
}

/// Joins the world whose ranks meet at the rendezvous, and waits for all of them.
pub(crate) fn join(options: &JoinOptions) -> Result<Member> {
    let JoinOptions { rank, size, timeout, .. } = *options;
    check_size(size)?;
    if rank >= size {
        return Err(Error::InvalidArgument(format!("there is no rank {rank} in a world of {size}")));
    }
    let (path, tuning) = (options.rendezvous.path(), options.tunings.for_ranks(size));
    let (deadline, cancellation) = (Instant::now() + timeout, options.cancellation.clone());
    let meeting = Meeting { path, rank, size, timeout, tuning, deadline, cancellation: &cancellation };
    let region = loop {
        if let Some((region, _lock)) = meeting.enter()?
            && meeting.sign_in(&region)?
        {
            break region;
        }
        meeting.check_deadline()?;
    };
    let result = meeting.wait(&region);
    if let Err(error) = &result {
        FailureRecord::at(&region, header::FAILURE).set(error, rank);
        meeting.remove(&region);
    }
    let peers = (0..size).map(|_| None).collect();
    let (patience, tuning) = (Patience::new(size), tuning_of(&region));
    let (region, placed) = (Arc::new(region), RwLock::default());
    let is_one_process = false;
    let mut member =
        Member { region, rank, size, timeout, patience, tuning, cancellation, peers, is_one_process, placed };
    result?;
    member.open_peers().inspect_err(|error| member.report(error))?;
    Ok(member)
}

/// Tells all who wait at `path`, and all who still come, that a rank of theirs will not. The file stays for those.
pub(crate) fn close(path: &Path, rank: usize, size: usize, reason: &str) -> Result<()> {
    check_size(size)?;
    let timeout = Duration::from_millis(100);
    let (deadline, cancellation) = (Instant::now() + timeout, Cancellation::new());
    let tuning = Tuning::untuned(size);
    let meeting = Meeting { path, rank, size, timeout, tuning, deadline, cancellation: &cancellation };
    loop {
        if let Some((region, _lock)) = meeting.enter()? {
            FailureRecord::at(&region, header::FAILURE).set(&lost(rank, reason, String::new()), rank);
            region.word(header::CLOSED).store(1, Ordering::Release);
            return Ok(());
        }
        meeting.check_deadline()?;
    }
}

/// Whether a file is one in which ranks meet: empty, all zeros so far, or marked.
pub(crate) fn is_rendezvous(file: &File) -> bool {
    let mut start = [0u8; header::LEN];
    match file.read_at(&mut start, 0) {
        Ok(0) => true,
        Ok(n) if n == start.len() => {
            start[header::LOCKED_BY..][..4].fill(0);
            start[..8] == MAGIC.to_ne_bytes() || start.iter().all(|&b| b == 0)
        }
        _ => false,
    }
}

fn check_size(size: usize) -> Result<()> {
    if (1..=MAX_RANKS).contains(&size) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("a world has 1 to {MAX_RANKS} ranks, not {size}")))
}

fn sign_in(region: &Region, rank: usize) {
    let at = rank_slot(rank);
    let pid = std::process::id();
    region.word(at + slot::PID).store(pid, Ordering::Relaxed);
    region.wide(at + slot::STARTED).store(start_time(pid), Ordering::Relaxed);
    region.word(at + slot::STATE).store(JOINED, Ordering::Release);
}

/// The process of a rank that has joined; `Ok(None)` if it is this one, an error if it is gone.
fn process_of(region: &Region, rank: usize) -> Result<Option<Process>, u32> {
    let pid = region.word(rank_slot(rank) + slot::PID).load(Ordering::Relaxed);
    if pid == std::process::id() {
        return Ok(None);
    }
    let started = region.wide(rank_slot(rank) + slot::STARTED).load(Ordering::Relaxed);
    Process::open(pid, started).map(Some).ok_or(pid)
}

impl Member {
    fn open_peers(&mut self) -> Result<()> {
        for rank in 0..self.size {
            self.peers[rank] = match process_of(&self.region, rank) {
                Ok(process) => process,
                Err(_) if loss(&self.region, rank, |_| true).is_some() => None,
                Err(pid) => {
                    // It may have said why.
                    let reported = self.failure().check(self.rank, &joining);
                    return reported.and_then(|()| Err(lost(rank, &died(pid), joining())));
                }
            };
        }
        self.is_one_process = self.peers.iter().all(Option::is_none);
        Ok(())
    }
}

fn died(pid: u32) -> String {
    format!("its process {pid} has died")
}

fn joining() -> String {
    "joining the world".to_owned()
}

/// One rank that joins.
struct Meeting<'a> {
    path: &'a Path,
    rank: usize,
    size: usize,
    timeout: Duration,
    /// What the others will use, if this rank is the first.
    tuning: Tuning,
    deadline: Instant,
    cancellation: &'a Cancellation,
}

impl Meeting<'_> {
    /// The file, set up and locked; `None` when it went away meanwhile and another has to be tried.
    fn enter(&self) -> Result<Option<(Region, Lock)>> {
        let file = self.open()?;
        let mut lock = self.lock(&file)?;
        if !self.is_named(&file) {
            return Ok(None);
        }
        self.check_file(&file)?;
        let is_blank = self.is_blank(&file)?;
        // Who waits for the lock in vain does without, if need be.
        let _ = lock.sign(self.rank, is_blank);
        if is_blank {
            self.create(&file)?;
        }
        Ok(Some((Region::of_file(file, MEETING_LEN)?, lock)))
    }

    /// Takes this rank's place, in the locked file; `false` when another file has to be tried.
    fn sign_in(&self, region: &Region) -> Result<bool> {
        if is_closed(region) {
            FailureRecord::at(region, header::FAILURE).check(self.rank, &joining)?;
        }
        if !self.check_present(region)? {
            return Ok(false);
        }
        sign_in(region, self.rank);
        if region.word(header::JOINED).fetch_add(1, Ordering::AcqRel) + 1 == self.size as u32 {
            // The ranks can do without; the next job at this path replaces the file.
            let _ = self.unlink();
            ready(region).publish(1);
        }
        Ok(true)
    }

    fn open(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.path, flags, Mode::RUSR | Mode::WUSR);
        Ok(file.map_err(|e| self.io("cannot open", e))?.into())
    }

    /// Locks the file until the lock is dropped.
    fn lock(&self, file: &File) -> Result<Lock> {
        let file = file.try_clone().map_err(|e| self.io("cannot duplicate", e))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { file, is_signed: false }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < self.deadline => {
                    self.cancellation.check(self.rank, &joining)?;
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(self.timed_out("another process keeps it locked", locked_by(&file)));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.io("cannot lock", error)),
            }
        }
    }

    /// Whether the file still has the name under which it was opened.
    fn is_named(&self, file: &File) -> bool {
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (file.metadata(), std::fs::symlink_metadata(self.path)) {
            (Ok(open), Ok(named)) => same(open, named),
            _ => false,
        }
    }

    fn check_file(&self, file: &File) -> Result<()> {
        let meta = file.metadata().map_err(|e| self.io("cannot examine", e))?;
        let refuse = |why: &str| Err(Error::InvalidArgument(format!("{} {why}", self.path.display())));
        if !meta.is_file() || !is_rendezvous(file) {
            return refuse("is no rendezvous file; name a path that does not exist");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
            return refuse("belongs to somebody else, or others may write it; name another rendezvous");
        }
        Ok(())
    }

    /// Whether nobody has set the file up, or somebody died doing so.
    fn is_blank(&self, file: &File) -> Result<bool> {
        let mut magic = [0u8; 8];
        let read = file.read_at(&mut magic, 0).map_err(|e| self.io("cannot read", e))?;
        Ok(read < magic.len() || magic != MAGIC.to_ne_bytes())
    }

    fn create(&self, file: &File) -> Result<()> {
        let space = rustix::fs::fstatvfs(file).map_err(|e| self.io("cannot examine", e))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < MEETING_LEN as u64 {
            return Err(Error::Unsupported(format!(
                "{}: ranks need {MEETING_LEN} bytes there to meet, but {free} are free; set MSLITE_RENDEZVOUS to a \
                 path elsewhere",
                self.path.display()
            )));
        }
        // With all its pages, as a file system that fills up later would end the process that touches them.
        let allocated = rustix::fs::fallocate(file, FallocateFlags::empty(), 0, MEETING_LEN as u64);
        let resized = match allocated {
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(MEETING_LEN as u64),
            other => other.map_err(std::io::Error::from),
        };
        resized.map_err(|e| self.io("cannot resize", e))?;
        // At once, so that whoever finds a part of it knows what it is.
        let mut start = [0u8; header::TUNING + 8 * Tuning::NAMES.len()];
        let values = self.tuning.values().map(|value| value as u64);
        for (at, bytes) in [
            (header::MAGIC, &MAGIC.to_ne_bytes()[..]),
            (header::SIZE, &(self.size as u64).to_ne_bytes()),
            (header::LOCKED_BY, &(self.rank as u32 + 1).to_ne_bytes()),
            (header::TUNING, bytemuck::bytes_of(&values)),
        ] {
            start[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let written = file.write_all_at(&start, 0);
        written.map_err(|e| self.io("cannot write", e))
    }

    /// Whether this rank may sign in with those who are there; `false` when it was a dead job's file, which is
    /// removed.
    fn check_present(&self, region: &Region) -> Result<bool> {
        let size = region.wide(header::SIZE).load(Ordering::Relaxed) as usize;
        let present = self.present(region, size.min(MAX_RANKS));
        let alive = |rank: usize| loss(region, rank, |_| process_of(region, rank).is_ok()).is_none();
        let is_fresh = present.is_empty() && size == self.size;
        if !is_fresh && !present.iter().any(|&rank| alive(rank)) {
            self.unlink().map_err(|e| self.io("cannot remove what a dead job left:", e))?;
            return Ok(false);
        }
        if size != self.size {
            return Err(self.other_size(&present, size));
        }
        if present.contains(&self.rank) && alive(self.rank) {
            let pid = region.word(rank_slot(self.rank) + slot::PID).load(Ordering::Relaxed);
            return Err(Error::InvalidArgument(format!(
                "process {pid} is already rank {} at {}; set MSLITE_RENDEZVOUS to another name for another job",
                self.rank,
                self.path.display()
            )));
        }
        self.check_alive(region).map(|()| true)
    }

    fn present(&self, region: &Region, size: usize) -> Vec<usize> {
        let state = |rank: usize| region.word(rank_slot(rank) + slot::STATE).load(Ordering::Acquire);
        (0..size).filter(|&rank| state(rank) != ABSENT).collect()
    }

    fn other_size(&self, present: &[usize], size: usize) -> Error {
        let other = present.iter().copied().find(|&rank| rank != self.rank).unwrap_or(0);
        let world = |size: usize| format!("a world of {size} ranks");
        Error::mismatch([(self.rank, world(self.size)), (other, world(size))])
    }

    fn check_alive(&self, region: &Region) -> Result<()> {
        for rank in self.present(region, self.size) {
            if let Some(reason) = loss(region, rank, |_| process_of(region, rank).is_ok()) {
                return Err(lost(rank, &reason, joining()));
            }
        }
        Ok(())
    }

    fn wait(&self, region: &Region) -> Result<()> {
        let since = Instant::now();
        let left = self.deadline.saturating_duration_since(since);
        ready(region).wait(
            Patience::new(usize::MAX),
            |ready| ready == 1,
            |waited| {
                let reported = || FailureRecord::at(region, header::FAILURE).check(self.rank, &joining);
                reported()?;
                if ready(region).load() == 1 {
                    return Ok(());
                }
                self.cancellation.check(self.rank, &joining)?;
                // Who is gone may have said why.
                self.check_alive(region).or_else(|error| reported().and(Err(error)))?;
                if waited < left {
                    return Ok(());
                }
                let present = self.present(region, self.size);
                let mut missing: Vec<usize> = (0..self.size).filter(|rank| !present.contains(rank)).collect();
                if missing.is_empty() {
                    // The last one has come, and stopped before it said so.
                    missing.extend(locked_by(region.file()));
                }
                let detail = format!("they have not come to {}", self.path.display());
                Err(Error::Timeout { missing, waited: self.timeout, operation: joining(), detail })
            },
        )
    }

    /// Removes the file's name if the file is still the one of `region`, and not kept for those who still come.
    fn remove(&self, region: &Region) {
        let file = region.file();
        // Without the lock, another file could take the name in between.
        if let Ok(_lock) = self.lock(file)
            && self.is_named(file)
            && !is_closed(region)
        {
            // There is another error to report.
            let _ = self.unlink();
        }
    }

    /// Removes the file's name; one that is not there any more needs no removing.
    fn unlink(&self) -> std::io::Result<()> {
        match std::fs::remove_file(self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn check_deadline(&self) -> Result<()> {
        self.cancellation.check(self.rank, &joining)?;
        match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err(self.timed_out("others replace it all the time", None)),
        }
    }

    /// Who is to blame is one rank, if it is known.
    fn timed_out(&self, why: &str, whom: Option<usize>) -> Error {
        let missing =
            (0..self.size).filter(|&rank| whom.map_or(rank != self.rank, |whom| rank == whom)).collect();
        let detail = format!("this rank could not enter {}: {why}", self.path.display());
        Error::Timeout { missing, waited: self.timeout, operation: joining(), detail }
    }

    fn io(&self, what: &str, error: impl Into<std::io::Error>) -> Error {
        Error::io(format!("{what} the rendezvous {}", self.path.display()), error)
    }
}

/// What the first rank has told the others.
fn tuning_of(region: &Region) -> Tuning {
    let value = |n: usize| region.wide(header::TUNING + 8 * n).load(Ordering::Relaxed) as usize;
    Tuning::of(std::array::from_fn(value))
}

/// Whether all ranks have come.
fn ready(region: &Region) -> Counter<'_> {
    Counter::at(region, header::READY)
}

/// Whether a launcher has said that a rank will not come.
fn is_closed(region: &Region) -> bool {
    region.word(header::CLOSED).load(Ordering::Acquire) == 1
}

/// The lock of a file, which all its descriptors share.
struct Lock {
    file: File,
    is_signed: bool,
}

impl Lock {
    /// Says in the file which rank has it.
    fn sign(&mut self, rank: usize, is_blank: bool) -> std::io::Result<()> {
        if is_blank {
            // Empty, but of a length by which it is known.
            self.file.set_len(0)?;
            self.file.set_len(header::LEN as u64)?;
        }
        self.is_signed = true;
        self.file.write_all_at(&(rank as u32 + 1).to_ne_bytes(), header::LOCKED_BY as u64)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The system releases the lock with the last descriptor, too, and who has it signs anew.
        if self.is_signed {
            let _ = self.file.write_all_at(&[0; 4], header::LOCKED_BY as u64);
        }
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// The rank that has locked a file, if it has said so.
fn locked_by(file: &File) -> Option<usize> {
    let mut bytes = [0u8; 4];
    file.read_exact_at(&mut bytes, header::LOCKED_BY as u64).ok()?;
    (u32::from_ne_bytes(bytes) as usize).checked_sub(1)
}
