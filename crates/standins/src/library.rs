//! For tests: the library as it is opened by path, with what it has noted.
#![allow(unsafe_code, reason = "calls functions of the library by name")]

use std::ffi::CString;
use std::path::{Path, PathBuf};

use libloading::Library;

/// The stand-ins as a library of this process, which shares nothing with this crate as it is linked to tests.
#[derive(Debug)]
pub struct Standins {
    library: Library,
    path: PathBuf,
}

impl Standins {
    /// The library, which lies beside the tests that depend on this crate.
    ///
    /// # Errors
    /// Where it is not.
    pub fn open() -> Result<Standins, String> {
        let test = std::env::current_exe().map_err(|e| e.to_string())?;
        let path = test.parent().unwrap_or(Path::new(".")).join("libmslite_standins.so");
        // SAFETY: the library runs nothing when it is loaded.
        let library = unsafe { Library::new(&path) }.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Standins { library, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes something go wrong at a device: `DEVICE NAME [N]`.
    ///
    /// # Panics
    /// When it is not understood.
    pub fn fault(&self, text: &str) {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: the type is that of `standins_fault`.
        let code = unsafe {
            let symbol = self.library.get::<unsafe extern "C" fn(*const i8) -> i32>(b"standins_fault\0");
            symbol.expect("the library is ours")(text.as_ptr())
        };
        assert_eq!(code, 0, "{text:?} is understood");
    }

    /// What was done wrong so far.
    ///
    /// # Panics
    /// When the library is another one.
    pub fn violations(&self) -> String {
        let mut text = vec![0; 1 << 16];
        // SAFETY: the type is that of `standins_violations`.
        let len = unsafe {
            let symbol =
                self.library.get::<unsafe extern "C" fn(*mut u8, usize) -> usize>(b"standins_violations\0");
            symbol.expect("the library is ours")(text.as_mut_ptr(), text.len())
        };
        text.truncate(len);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How many things of a device are still in use.
    ///
    /// # Panics
    /// When the library is another one.
    pub fn alive(&self, device: usize) -> usize {
        // SAFETY: the type is that of `standins_alive`.
        unsafe {
            let symbol = self.library.get::<unsafe extern "C" fn(usize) -> usize>(b"standins_alive\0");
            symbol.expect("the library is ours")(device)
        }
    }
}
