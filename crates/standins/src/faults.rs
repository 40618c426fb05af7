//! What was done wrong, and what is to go wrong. Tests reach both by two functions of the library.

use std::ffi::{CStr, c_char};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

static VIOLATIONS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes that a call was wrong.
pub(crate) fn violation(text: impl Into<String>) {
    lock(&VIOLATIONS).push(text.into());
}

/// Something that goes wrong at one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Operations after the first `n` never end, and an error shows later.
    AsyncError(usize),
    /// Operations after the first `n` never end.
    Hang(usize),
    /// Operations after the first `n` are refused at once.
    Refuse(usize),
    /// No group is ever joined.
    JoinHangs,
    /// No group is joined.
    JoinFails,
    /// The process ends when it enqueues an operation after the first `n`.
    Die(usize),
}

/// `(device, fault)`
fn faults() -> MutexGuard<'static, Vec<(usize, Fault)>> {
    static FAULTS: OnceLock<Mutex<Vec<(usize, Fault)>>> = OnceLock::new();
    let from_environment = || {
        let text = std::env::var("MSLITE_STANDINS_FAULTS").unwrap_or_default();
        Mutex::new(text.split(';').filter_map(parse).collect())
    };
    lock(FAULTS.get_or_init(from_environment))
}

/// The fault of a device, if it has one.
pub(crate) fn fault(device: usize) -> Option<Fault> {
    faults().iter().find(|(at, _)| *at == device).map(|(_, fault)| fault.clone())
}

/// `DEVICE NAME [N]`, such as `3 async-error 2`.
fn parse(text: &str) -> Option<(usize, Fault)> {
    let mut words = text.split_whitespace();
    let device = words.next()?.parse().ok()?;
    let name = words.next()?;
    let n = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let fault = match name {
        "async-error" => Fault::AsyncError(n),
        "hang" => Fault::Hang(n),
        "refuse" => Fault::Refuse(n),
        "join-hangs" => Fault::JoinHangs,
        "join-fails" => Fault::JoinFails,
        "die" => Fault::Die(n),
        _ => return None,
    };
    Some((device, fault))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(unsafe_code, reason = "functions for tests that open the library")]
mod exported {
    use super::*;

    /// Makes something go wrong at a device: `DEVICE NAME [N]`. Returns 0, or -1 for what is not understood.
    ///
    /// # Safety
    /// `text` is a text that ends.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn standins_fault(text: *const c_char) -> i32 {
        // SAFETY: the caller's promise.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        match parse(&text) {
            Some(fault) => {
                faults().push(fault);
                0
            }
            None => -1,
        }
    }

    /// Writes what was done wrong so far, a line for each, and returns the number of bytes.
    ///
    /// # Safety
    /// `buffer` has room for `len` bytes.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn standins_violations(buffer: *mut u8, len: usize) -> usize {
        let text = lock(&VIOLATIONS).join("\n");
        let len = len.min(text.len());
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer, len) };
        len
    }
}

pub use exported::{standins_fault, standins_violations};
