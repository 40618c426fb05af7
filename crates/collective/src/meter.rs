//! How long a rank is inside operations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mslite_tensor::{Buffer, Stream};

use crate::{Cancellation, Collective, CollectiveOp, Group, RegisteredMemory, Result, Transport};

/// What the operations of a rank have taken so far, in all groups of a world: see
/// [`World::metered`](crate::World::metered).
///
/// Only grows; who wants to know about a part of a program takes differences.
#[derive(Debug, Default)]
pub struct Meter {
    nanoseconds: AtomicU64,
    operations: AtomicU64,
}

impl Meter {
    /// How long calls of [`Collective::start`] and [`Collective::enqueue`] have taken together. Waiting for other ranks is
    /// in it; what a device does on a stream after the call is not.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }

    /// How many operations were enqueued.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    fn count<T>(&self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = operation();
        let nanoseconds = start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        result
    }
}

/// A transport whose groups count.
#[derive(Debug)]
pub(crate) struct MeteredTransport {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) meter: Arc<Meter>,
}

impl Transport for MeteredTransport {
    fn rank(&self) -> usize {
        self.transport.rank()
    }

    fn size(&self) -> usize {
        self.transport.size()
    }

    fn timeout(&self) -> Duration {
        self.transport.timeout()
    }

    fn open(&self, group: Group) -> Result<Arc<dyn Collective>> {
        Ok(metered(self.transport.open(group)?, &self.meter))
    }

    fn split(&self, part: Option<Group>) -> Result<Option<Arc<dyn Collective>>> {
        let group = self.transport.split(part)?;
        Ok(group.map(|group| metered(group, &self.meter)))
    }

    fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.transport.exchange(bytes)
    }

    fn send_capacity(&self) -> usize {
        self.transport.send_capacity()
    }

    fn abort(&self, reason: &str) {
        self.transport.abort(reason);
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        self.transport.cancellation()
    }

    fn cancel(&self, by: &str) {
        self.transport.cancel(by);
    }
}

/// The same group, with its operations counted.
pub(crate) fn metered(group: Arc<dyn Collective>, meter: &Arc<Meter>) -> Arc<dyn Collective> {
    Arc::new(MeteredGroup { group, meter: Arc::clone(meter) })
}

struct MeteredGroup {
    group: Arc<dyn Collective>,
    meter: Arc<Meter>,
}

impl Collective for MeteredGroup {
    fn group(&self) -> &Group {
        self.group.group()
    }

    fn supports(&self, op: &CollectiveOp) -> bool {
        self.group.supports(op)
    }

    fn start(&self, op: &CollectiveOp, send: &dyn Buffer, stream: &dyn Stream) -> Result<()> {
        self.meter.count(|| self.group.start(op, send, stream))
    }

    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<()> {
        self.meter.operations.fetch_add(1, Ordering::Relaxed);
        self.meter.count(|| self.group.enqueue(op, send, recv, stream))
    }

    fn allocate(&self, len: usize) -> Result<Option<RegisteredMemory>> {
        self.group.allocate(len)
    }

    fn watch(&self, waited: Duration) -> Result<()> {
        self.group.watch(waited)
    }

    fn abort(&self) {
        self.group.abort();
    }
}

impl fmt::Debug for MeteredGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.fmt(f)
    }
}
