use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::shared::{self, MEETING_LEN};
use crate::{Cancellation, Error, Result, Tunings};

/// Where the ranks of a job meet: a file that exists from the first rank's coming to the last's.
///
/// A name stands for the file `mslite-UID-NAME` in `/dev/shm`, or in the directory of temporary files where
/// there is none. A text with a `/` is a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rendezvous {
    path: PathBuf,
}

impl Rendezvous {
    /// The rendezvous that a name or a path stands for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty text, or a name with other characters than ASCII letters, digits,
    /// `.`, `_` and `-`, or with more than 100 of them.
    pub fn new(name_or_path: &str) -> Result<Self> {
        if name_or_path.contains('/') {
            return Ok(Rendezvous { path: name_or_path.into() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=100).contains(&name_or_path.len()) || !name_or_path.chars().all(allowed) {
            return Err(Error::InvalidArgument(format!(
                "{name_or_path:?} is no name or path of a rendezvous"
            )));
        }
        Ok(Rendezvous::named(&shared_memory(), name_or_path))
    }

    /// A rendezvous that no other job uses, for a launcher that hands it to its ranks.
    pub fn unique() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{:x}-{count}", std::process::id(), time.as_nanos());
        let directory = shared_memory();
        let has_room = rustix::fs::statvfs(&directory)
            .is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) >= 2 * MEETING_LEN as u64);
        Rendezvous::named(&if has_room { directory } else { std::env::temp_dir() }, &name)
    }

    fn named(directory: &Path, name: &str) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Rendezvous { path: directory.join(format!("mslite-{uid}-{name}")) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the ranks that wait here, or come later, that `rank` of `size` never will, for a launcher that saw it
    /// end: they get [`Error::PeerLost`] with the reason instead of waiting for it. The file stays until
    /// [`Rendezvous::cleanup`]. Ranks that have met already do not look here any more.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::InvalidArgument`], [`Error::Unsupported`] as [`World::join`](crate::World::join).
    pub fn close(&self, rank: usize, size: usize, reason: &str) -> Result<()> {
        shared::close(&self.path, rank, size, reason)
    }

    /// Removes what ranks that died before the others came have left, for a launcher whose ranks have all ended.
    /// A file that is not a rendezvous of this user stays.
    ///
    /// # Errors
    /// [`Error::Io`] when the file is there, but cannot be removed.
    pub fn cleanup(&self) -> Result<()> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let Ok(file) =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&self.path)
        else {
            return Ok(());
        };
        let ours =
            file.metadata().is_ok_and(|m| m.is_file() && m.uid() == rustix::process::geteuid().as_raw());
        if !ours || !shared::is_rendezvous(&file) {
            return Ok(());
        }
        std::fs::remove_file(&self.path)
            .map_err(|e| Error::io(format!("cannot remove the rendezvous {}", self.path.display()), e))
    }
}

impl fmt::Display for Rendezvous {
    /// Writes what [`Rendezvous::new`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

fn shared_memory() -> PathBuf {
    let directory = Path::new("/dev/shm");
    if directory.is_dir() { directory.to_owned() } else { std::env::temp_dir() }
}

/// How a rank joins its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinOptions {
    /// This rank.
    pub rank: usize,
    /// Number of ranks.
    pub size: usize,
    /// Where they meet.
    pub rendezvous: Rendezvous,
    /// How long to wait for the others, when joining and later, before giving up.
    pub timeout: Duration,
    /// What they exchange data through.
    pub transport: TransportKind,
    /// What was measured on this machine.
    pub tunings: Tunings,
    /// What ends the job from outside, while this rank joins and later.
    pub cancellation: Cancellation,
}

/// What the processes of a job exchange data through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// Memory that the ranks of one host share; they meet at the rendezvous.
    #[default]
    SharedMemory,
    /// MPI, whose launcher has started the ranks, on any hosts. It has to be built in, by the feature `mpi`.
    Mpi,
}

impl TransportKind {
    /// Every kind.
    pub const ALL: [TransportKind; 2] = [TransportKind::SharedMemory, TransportKind::Mpi];

    /// Name in text forms.
    pub const fn name(self) -> &'static str {
        match self {
            TransportKind::SharedMemory => "shared",
            TransportKind::Mpi => "mpi",
        }
    }

    /// Bytes of a message that its source may hand over before the destination asks for it, when no other is under way
    /// between them, as [`Transport::send_capacity`](crate::Transport::send_capacity). Where this build lacks it, too.
    pub const fn send_capacity(self) -> usize {
        match self {
            TransportKind::SharedMemory => shared::SEND_CAPACITY,
            TransportKind::Mpi => 16 << 10,
        }
    }

    /// Whether this build has it.
    pub const fn is_available(self) -> bool {
        match self {
            TransportKind::SharedMemory => true,
            TransportKind::Mpi => cfg!(feature = "mpi"),
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TransportKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let kind = TransportKind::ALL.into_iter().find(|kind| kind.name() == text);
        kind.ok_or_else(|| Error::InvalidArgument(format!("{text:?} is no transport (shared, mpi)")))
    }
}

impl JoinOptions {
    /// The timeout of [`JoinOptions::new`].
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// Options with the default timeout, over shared memory.
    pub fn new(rank: usize, size: usize, rendezvous: Rendezvous) -> Self {
        let (timeout, transport) = (JoinOptions::DEFAULT_TIMEOUT, TransportKind::SharedMemory);
        let (tunings, cancellation) = (Tunings::default(), Cancellation::new());
        JoinOptions { rank, size, rendezvous, timeout, transport, tunings, cancellation }
    }
}
