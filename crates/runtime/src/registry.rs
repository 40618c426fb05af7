use std::sync::Arc;

use crate::backend::{Backend, DeviceOptions};
use crate::plan::NamedDevice;
use crate::{Error, ErrorKind, Result};

/// The backends that a program has chosen to offer. Registration is explicit: nothing adds itself.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    backends: Vec<Arc<dyn Backend>>,
}

impl Registry {
    /// No backends.
    pub fn new() -> Self {
        Registry::default()
    }

    /// The same registry with one more backend; it replaces one of the same name.
    #[must_use]
    pub fn with(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backends.retain(|known| known.name() != backend.name());
        self.backends.push(backend);
        self
    }

    /// The backends, in order of registration.
    pub fn backends(&self) -> &[Arc<dyn Backend>] {
        &self.backends
    }

    /// The backend of that name.
    ///
    /// # Errors
    /// `Unavailable`, listing the names that are there.
    pub fn backend(&self, name: &str) -> Result<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.name() == name).ok_or_else(|| {
            let known: Vec<&str> = self.backends.iter().map(|backend| backend.name()).collect();
            let message =
                format!("backend {name:?} is not part of this program; it has: {}", known.join(", "));
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    /// Opens a device of a backend.
    ///
    /// # Errors
    /// `Unavailable` when the backend or the device is not there; what the backend reports.
    pub fn open(&self, name: &str, device: usize, options: &DeviceOptions) -> Result<NamedDevice> {
        let backend = self.backend(name)?;
        let devices = backend.devices()?;
        let info = devices.iter().find(|info| info.id == device).ok_or_else(|| {
            let message =
                format!("backend {name:?} has {} devices, none of them is number {device}", devices.len());
            Error::new(ErrorKind::Unavailable, message)
        })?;
        Ok(NamedDevice { name: format!("{name}:{device}"), device: backend.open(info, options)? })
    }
}
