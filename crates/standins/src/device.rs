//! Devices: memory that the host cannot address, streams that run by themselves, and what is still in use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use crate::faults::{lock, violation};

/// How many devices there are of each kind.
pub(crate) const DEVICES: usize = 256;

/// Where device memory begins: not the canonical form of an address, so that its use by the CPU faults.
const FIRST_ADDRESS: usize = 0x0d00_0000_0000_0000;
const PAGE: usize = 4096;

struct Allocation {
    bytes: Vec<u8>,
    device: usize,
    /// Operations under way.
    uses: usize,
}

static MEMORY: Mutex<BTreeMap<usize, Allocation>> = Mutex::new(BTreeMap::new());
static NEXT_ADDRESS: AtomicUsize = AtomicUsize::new(FIRST_ADDRESS);

/// New memory.
pub(crate) fn allocate(device: usize, len: usize) -> usize {
    // A page between two allocations belongs to none.
    let room = len.next_multiple_of(PAGE) + PAGE;
    let address = NEXT_ADDRESS.fetch_add(room, Ordering::Relaxed);
    let bytes = vec![0xa5; len];
    lock(&MEMORY).insert(address, Allocation { bytes, device, uses: 0 });
    address
}

/// Whether there was memory to free.
pub(crate) fn free(address: usize) -> bool {
    let removed = lock(&MEMORY).remove(&address);
    match removed {
        Some(allocation) if allocation.uses > 0 => {
            violation(format!("memory at {address:#x} is freed while {} operations use it", allocation.uses));
            true
        }
        Some(_) => true,
        None => {
            violation(format!("{address:#x} is freed, but is no device memory"));
            false
        }
    }
}

fn with<R>(address: usize, len: usize, work: impl FnOnce(&mut Allocation, usize) -> R) -> Option<R> {
    let mut memory = lock(&MEMORY);
    let (start, allocation) = memory.range_mut(..=address).next_back()?;
    let offset = address - start;
    (offset + len <= allocation.bytes.len()).then(|| work(allocation, offset))
}

/// Device memory that an operation uses until this is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    address: usize,
    len: usize,
}

impl Pin {
    /// `None`, and a note, for what is not memory of this device.
    pub(crate) fn new(what: &str, device: usize, address: usize, len: usize) -> Option<Pin> {
        let owner = with(address, len, |allocation, _| {
            allocation.uses += 1;
            allocation.device
        });
        match owner {
            Some(owner) => {
                if owner != device {
                    violation(format!("{what}: memory of device {owner} is used at device {device}"));
                }
                Some(Pin { address, len })
            }
            None => {
                violation(format!("{what}: {len} bytes at {address:#x} are not device memory"));
                None
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn read(&self) -> Vec<u8> {
        let read = |a: &mut Allocation, at: usize| a.bytes[at..at + self.len].to_vec();
        with(self.address, self.len, read).unwrap_or_else(|| vec![0; self.len])
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        let len = bytes.len().min(self.len);
        with(self.address, len, |a, at| a.bytes[at..at + len].copy_from_slice(&bytes[..len]));
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        with(self.address, self.len, |allocation, _| allocation.uses -= 1);
    }
}

/// Whether an address is one of a device.
pub(crate) fn is_device_address(address: usize) -> bool {
    (FIRST_ADDRESS..NEXT_ADDRESS.load(Ordering::Relaxed)).contains(&address)
}

type Work = Box<dyn FnOnce() + Send>;

/// A queue with a thread that works it off.
pub(crate) struct Stream {
    pub(crate) device: usize,
    pending: AtomicUsize,
    queue: Mutex<Sender<Work>>,
}

static STREAMS: Mutex<BTreeMap<usize, Arc<Stream>>> = Mutex::new(BTreeMap::new());
static NEXT_HANDLE: AtomicUsize = AtomicUsize::new(0x0e00_0000_0000_0010);

/// A number that stands for an object, as a pointer does that nobody may follow.
pub(crate) fn new_handle() -> usize {
    NEXT_HANDLE.fetch_add(16, Ordering::Relaxed)
}

impl Stream {
    pub(crate) fn create(device: usize) -> usize {
        let (sender, receiver) = channel::<Work>();
        std::thread::spawn(move || receiver.into_iter().for_each(|work| work()));
        let stream = Stream { device, pending: AtomicUsize::new(0), queue: Mutex::new(sender) };
        let handle = new_handle();
        lock(&STREAMS).insert(handle, Arc::new(stream));
        handle
    }

    /// `None`, and a note, for what is no stream.
    pub(crate) fn find(what: &str, handle: usize) -> Option<Arc<Stream>> {
        let found = lock(&STREAMS).get(&handle).cloned();
        if found.is_none() {
            violation(format!("{what}: {handle:#x} is no stream, or was destroyed"));
        }
        found
    }

    pub(crate) fn destroy(handle: usize) -> bool {
        let removed = lock(&STREAMS).remove(&handle);
        if removed.is_none() {
            violation(format!("{handle:#x} is destroyed, but is no stream"));
        }
        removed.is_some()
    }

    pub(crate) fn enqueue(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        let stream = Arc::clone(self);
        let counted = move || {
            work();
            stream.pending.fetch_sub(1, Ordering::AcqRel);
        };
        // Only destroyed streams have no thread, and nobody has their handles.
        let _ = lock(&self.queue).send(Box::new(counted));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }
}

/// How many communicators each device has.
pub(crate) static COMMUNICATORS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());
/// How many holders the context of each device has.
pub(crate) static CONTEXTS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// Adds to, or takes from, a count.
pub(crate) fn count(counts: &Mutex<BTreeMap<usize, usize>>, device: usize, more: bool) {
    let mut counts = lock(counts);
    let count = counts.entry(device).or_default();
    match (more, *count) {
        (true, _) => *count += 1,
        (false, 0) => violation(format!("something of device {device} is given back that was not taken")),
        (false, _) => *count -= 1,
    }
}

#[allow(unsafe_code, reason = "a function for tests that open the library")]
mod exported {
    use super::*;

    /// How many pieces of memory, streams, communicators and holds of contexts a device still has.
    #[unsafe(no_mangle)]
    pub extern "C" fn standins_alive(device: usize) -> usize {
        let memory = lock(&MEMORY).values().filter(|allocation| allocation.device == device).count();
        let streams = lock(&STREAMS).values().filter(|stream| stream.device == device).count();
        let of = |counts: &Mutex<BTreeMap<usize, usize>>| lock(counts).get(&device).copied().unwrap_or(0);
        memory + streams + of(&COMMUNICATORS) + of(&CONTEXTS)
    }
}

pub use exported::standins_alive;
