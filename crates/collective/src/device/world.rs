//! All ranks, over a library of a vendor and a control world.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mslite_tensor::DType;

use super::driver::Vendor;
use super::group::DeviceGroup;
use super::memory::{DeviceBuffer, WatchedStream};
use crate::cancellation::cancelled;
use crate::{Collective, Error, Group, GroupName, Result, World};

/// One rank's end of a world; copies are the same end.
#[derive(Debug, Clone)]
pub(crate) struct DeviceWorld {
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

impl DeviceWorld {
    pub(crate) fn new(control: World, vendor: impl Vendor, compare: bool) -> Self {
        let shared = Arc::new(Shared { control, vendor: Box::new(vendor), compare });
        DeviceWorld { shared, groups: Groups::default() }
    }

    pub(crate) fn control(&self) -> &World {
        &self.shared.control
    }

    pub(crate) fn open(&self, group: Group) -> Result<Arc<dyn Collective>> {
        let group = DeviceGroup::open(&self.shared, group)?;
        self.groups.push(&group);
        Ok(group)
    }

    pub(crate) fn split(&self, part: Option<Group>) -> Result<Option<Arc<dyn Collective>>> {
        let everybody = self.groups.living().into_iter().find(|group| group.group.name.is_world());
        let everybody =
            everybody.ok_or_else(|| Error::InvalidArgument("there is no group to split".into()))?;
        let group = everybody.split(part)?;
        Ok(group.map(|group| {
            self.groups.push(&group);
            group as Arc<dyn Collective>
        }))
    }

    pub(crate) fn abort(&self, reason: &str) {
        self.shared.control.abort(reason);
        for group in self.groups.living() {
            group.give_up(Error::Aborted { reason: reason.to_owned() });
        }
    }

    pub(crate) fn cancel(&self, by: &str) {
        // The control world has been cancelled before.
        for group in self.groups.living() {
            group.give_up(cancelled(self.control().rank(), by, String::new()));
        }
    }

    /// What the vendor calls a group.
    pub(crate) fn name_of(&self, name: &GroupName) -> Option<String> {
        self.groups.living().iter().find(|group| group.group.answers_to(name)).and_then(|group| group.name())
    }

    pub(crate) fn buffer(&self, dtype: DType, dims: &[usize]) -> Result<DeviceBuffer> {
        DeviceBuffer::new(self.shared.vendor.driver(), dtype, dims)
    }

    pub(crate) fn stream(&self) -> Result<WatchedStream> {
        let groups = self.groups.clone();
        let watch = move |waited| groups.living().iter().try_for_each(|group| group.watch(waited));
        WatchedStream::new(self.shared.vendor.driver(), watch)
    }
}
