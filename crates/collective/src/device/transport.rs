//! All ranks, over a library of a vendor and a control world.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mslite_tensor::DType;

use super::driver::Vendor;
use super::group::DeviceGroup;
use super::memory::{DeviceBuffer, WatchedStream};
use crate::cancellation::cancelled;
use crate::{Cancellation, Collective, Error, Group, GroupName, Result, Transport, World};

/// A transport over the library of a device's vendor, which `NcclOptions` and `HcclOptions` open. Ranks meet in the
/// library when [`World::over`] makes the group of all ranks. Copies are the same transport; the rank leaves when all are
/// dropped.
///
/// What ranks say to each other goes through a *control* world: how to find each other in the library,
/// [`World::exchange`], who has aborted. Its timeout also ends waits in the library.
///
/// Operations on the device's buffers and streams (see [`Buffer::device`](mslite_tensor::Buffer::device) and
/// [`Stream::device`](mslite_tensor::Stream::device)) are enqueued and not waited for: who waits calls
/// [`Collective::watch`] meanwhile, as [`WatchedStream`] does. On the host's stream, operations wait and copy what is
/// in host memory to the device and back.
///
/// If asked to, members *compare* every operation over the control world before they enqueue it. Then operations that do
/// not fit are an error that says so instead of a timeout, and a rank that does not come is named. The price is a small
/// operation of the control world for each one, and that `enqueue` waits for the other members; graphs of a device
/// cannot be recorded so. All ranks ask for the same.
#[derive(Debug, Clone)]
pub struct DeviceTransport {
    shared: Arc<Shared>,
    groups: Groups,
}

/// What every group needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) control: World,
    pub(super) vendor: Box<dyn Vendor>,
    /// Whether members compare operations before they enqueue them.
    pub(super) compare: bool,
}

impl Shared {
    pub(super) fn timeout(&self) -> Duration {
        self.control.timeout()
    }
}

/// The groups that still are in use; the group of all ranks comes first.
#[derive(Debug, Clone, Default)]
struct Groups(Arc<Mutex<Vec<Weak<DeviceGroup>>>>);

impl Groups {
    fn push(&self, group: &Arc<DeviceGroup>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(group));
    }

    fn living(&self) -> Vec<Arc<DeviceGroup>> {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter().filter_map(Weak::upgrade).collect()
    }
}

impl DeviceTransport {
    pub(crate) fn new(control: World, vendor: impl Vendor, compare: bool) -> Self {
        let shared = Arc::new(Shared { control, vendor: Box::new(vendor), compare });
        DeviceTransport { shared, groups: Groups::default() }
    }

    /// What HCCL calls a group of this rank: the `group` of exchanges in graphs for GE. `None` for groups that are not
    /// there, or have failed, and in NCCL, where they have no names.
    pub fn name_of(&self, group: &GroupName) -> Option<String> {
        self.groups.living().iter().find(|living| living.group.answers_to(group))?.name()
    }

    /// A buffer on the device, for callers that have no memory there themselves. Its bytes are not set.
    ///
    /// # Errors
    /// [`Error::Library`] when there is not as much memory.
    pub fn buffer(&self, dtype: DType, dims: &[usize]) -> Result<DeviceBuffer> {
        DeviceBuffer::new(self.shared.vendor.driver(), dtype, dims)
    }

    /// A stream of the device, which watches all groups of this rank while it is waited for.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn stream(&self) -> Result<WatchedStream> {
        let groups = self.groups.clone();
        let watch = move |waited| groups.living().iter().try_for_each(|group| group.watch(waited));
        WatchedStream::new(self.shared.vendor.driver(), watch)
    }
}

impl Transport for DeviceTransport {
    fn rank(&self) -> usize {
        self.shared.control.rank()
    }

    fn size(&self) -> usize {
        self.shared.control.size()
    }

    fn timeout(&self) -> Duration {
        self.shared.timeout()
    }

    fn open(&self, group: Group) -> Result<Arc<dyn Collective>> {
        let group = DeviceGroup::open(&self.shared, group)?;
        self.groups.push(&group);
        Ok(group)
    }

    fn split(&self, part: Option<Group>) -> Result<Option<Arc<dyn Collective>>> {
        let everybody = self.groups.living().into_iter().find(|group| group.group.name.is_world());
        let everybody =
            everybody.ok_or_else(|| Error::InvalidArgument("there is no group to split".into()))?;
        let group = everybody.split(part)?;
        Ok(group.map(|group| {
            self.groups.push(&group);
            group as Arc<dyn Collective>
        }))
    }

    fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.shared.control.exchange(bytes)
    }

    fn abort(&self, reason: &str) {
        self.shared.control.abort(reason);
        for group in self.groups.living() {
            group.give_up(Error::Aborted { reason: reason.to_owned() });
        }
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        Some(self.shared.control.cancellation())
    }

    fn cancel(&self, by: &str) {
        // The control world has been cancelled before.
        for group in self.groups.living() {
            group.give_up(cancelled(self.rank(), by, String::new()));
        }
    }
}
