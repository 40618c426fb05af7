//! Opening models: which files there are, and whether they are encrypted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::decode::decode_model;
use crate::weights::{Beside, WeightFiles, Weights};
use crate::{Error, Key, Mode, Model, Result, crypto, file};

/// How to open a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Key of an encrypted model. A model that is not encrypted is then refused.
    pub key: Option<Key>,
    /// Encryption mode that the file must have; by default, the one that its magic number names.
    pub mode: Option<Mode>,
    /// Whether to have the system read the files in the background right away, and not when they are used.
    pub read_ahead: bool,
    /// Whether to keep the files in memory, however scarce it gets (`mlock`). The system's limit for that is
    /// often too low for weights; then opening fails.
    pub lock: bool,
}

impl OpenOptions {
    /// Options for models that are not encrypted.
    pub fn new() -> Self {
        OpenOptions::default()
    }

    /// With a key.
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// With an encryption mode.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// With the files read in the background right away.
    pub fn read_ahead(mut self) -> Self {
        self.read_ahead = true;
        self
    }

    /// With the files kept in memory.
    pub fn lock(mut self) -> Self {
        self.lock = true;
        self
    }
}

impl Model {
    /// Opens a model file and checks it. Weights are windows of the mapped files, unless they are encrypted.
    ///
    /// When `NAME.mindir` does not exist but `NAME_graph.mindir` (a model with separate weights) does, that one
    /// is opened. Files must not be changed while the model or any of its tensors is alive.
    ///
    /// # Errors
    /// Any of [`Error`] but [`Error::Attribute`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = existing(path.as_ref());
        Model::from_bytes(file::map(&path, options)?, &path, options)
    }

    /// Reads a model from the bytes of its graph file and checks it.
    ///
    /// `path` is where the file is, or would be: errors name it, and separate weights are looked up beside it.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: Bytes, path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let graph_file = path.as_ref();
        Model::from_bytes_with(bytes, graph_file, options, &Beside { graph_file, options })
    }

    /// Reads a model from the bytes of its graph file, with separate weights from `weights`, and checks it.
    /// Errors name `path`.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes_with(
        bytes: Bytes,
        path: impl AsRef<Path>,
        options: &OpenOptions,
        weights: &dyn WeightFiles,
    ) -> Result<Self> {
        let path = path.as_ref();
        let (plain, encryption) = decrypted(path, bytes, options)?;
        let mut model = match decode_model(path, &plain, Weights::new(path, options, weights)) {
            Err(Error::Invalid { file, at, reason }) if is_unauthenticated(encryption) && file == path => {
                let reason = format!("{reason}; the key may be wrong");
                return Err(Error::Invalid { file, at, reason });
            }
            result => result?,
        };
        model.encryption = encryption;
        Ok(model)
    }
}

/// The contents of a file that may be encrypted, and its mode if it is.
pub(crate) fn decrypted(path: &Path, bytes: Bytes, options: &OpenOptions) -> Result<(Bytes, Option<Mode>)> {
    let file = || path.to_owned();
    match (Mode::of_bytes(&bytes), &options.key, options.mode) {
        (None, None, None) => Ok((bytes, None)),
        (None, _, _) => Err(Error::NotEncrypted { file: file() }),
        (Some(found), _, Some(given)) if found != given => {
            Err(Error::ModeMismatch { file: file(), found, given })
        }
        (Some(found), None, _) => Err(Error::KeyMissing { file: file(), found }),
        (Some(found), Some(key), _) => {
            let plain = crypto::decrypt(path, &bytes, found, key)?;
            Ok((plain, Some(found)))
        }
    }
}

fn is_unauthenticated(mode: Option<Mode>) -> bool {
    matches!(mode, Some(Mode::AesCbc | Mode::Sm4Cbc))
}

fn existing(path: &Path) -> PathBuf {
    let split = path.file_stem().map(|stem| {
        let mut name = OsString::from(stem);
        name.push("_graph.mindir");
        path.with_file_name(name)
    });
    match split {
        Some(split) if !path.exists() && split.exists() => split,
        _ => path.to_owned(),
    }
}
