//! Libraries of vendors, opened at run time.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use libloading::Library;

use crate::{Error, Result};

/// A shared library and what it is called in messages. It is never closed: it may have threads that run on.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    library: &'static Library,
    /// As it was found.
    name: String,
}

/// Where to look for a library, and what to say where it is not.
pub(crate) struct Search<'a> {
    /// What it is for: "NCCL".
    pub(crate) what: &'static str,
    /// Names that the system's loader is asked for.
    pub(crate) names: &'static [&'static str],
    /// The file that the user names; nothing else is tried then.
    pub(crate) file: Option<&'a Path>,
    /// How it gets on a machine.
    pub(crate) hint: &'static str,
}

impl Search<'_> {
    /// Opens the first library that is there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that says where it was looked for.
    pub(crate) fn open(&self) -> Result<Opened> {
        let candidates: Vec<PathBuf> = match self.file {
            Some(file) => vec![file.to_owned()],
            None => self.names.iter().map(PathBuf::from).collect(),
        };
        let mut tried = Vec::new();
        for candidate in &candidates {
            // SAFETY: the vendor's libraries run nothing at load time but their own initialisers.
            match unsafe { Library::new(candidate) } {
                Ok(library) => {
                    let library = Box::leak(Box::new(library));
                    return Ok(Opened { library, name: candidate.display().to_string() });
                }
                Err(error) => tried.push(reason(&error)),
            }
        }
        Err(Error::Unsupported(format!(
            "{} is not on this machine ({}); {}",
            self.what,
            tried.join("; "),
            self.hint
        )))
    }
}

/// The loader's own words, which begin with the file.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Opened {
    /// A function of the library.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the function that the library lacks.
    ///
    /// # Safety
    /// `F` is the type of that function.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F> {
        // SAFETY: the caller's promise.
        let symbol = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        symbol.map(|symbol| *symbol).map_err(|_| {
            Error::Unsupported(format!(
                "{} has no function {}: it is too old, or another library of that name",
                self.name,
                name.to_string_lossy()
            ))
        })
    }
}

/// A table of functions of one library: a struct with a field for each, and `load`, which fills it.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $($field:ident = $symbol:literal : fn($($argument:ty),* $(,)?) -> $result:ty;)* }) => {
        $(#[$doc])*
        pub(super) struct $table {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            pub(super) fn load(library: &$crate::device::library::Opened) -> $crate::Result<Self> {
                $(
                    let name = std::ffi::CStr::from_bytes_with_nul(concat!($symbol, "\0").as_bytes());
                    // SAFETY: the types are those of the vendor's documentation.
                    let $field = unsafe { library.function(name.unwrap_or_default())? };
                )*
                Ok($table { $($field),* })
            }
        }

        impl std::fmt::Debug for $table {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($table)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use functions;
