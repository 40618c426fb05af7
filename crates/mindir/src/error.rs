use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Mode;

/// What can go wrong when a model is read or written.
///
/// Every variant that concerns a file begins its message with the file's path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// File or folder.
        file: PathBuf,
        /// What was tried: "open", "map".
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The bytes are not a valid model: not protobuf, truncated, inconsistent, or refused as unsafe.
    #[error("{}: {at}: {reason}", file.display())]
    Invalid {
        /// File.
        file: PathBuf,
        /// Place in it.
        at: Location,
        /// What is wrong there.
        reason: String,
    },
    /// The bytes may be a valid model, with something that this reader does not know.
    #[error("{}: {at}: {feature} is not supported", file.display())]
    Unsupported {
        /// File.
        file: PathBuf,
        /// Place in it.
        at: Location,
        /// What is not supported.
        feature: String,
    },
    /// Weights outside the graph file cannot be taken from where the model says.
    #[error("{}: {at}: weights in {location:?}: {reason}", file.display())]
    External {
        /// Graph file.
        file: PathBuf,
        /// Place of the reference.
        at: Location,
        /// The reference: a path relative to the graph file's folder.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is encrypted, and there is no key.
    #[error("{}: the file is encrypted ({found}): give the key", file.display())]
    KeyMissing {
        /// File.
        file: PathBuf,
        /// Mode that its magic number names.
        found: Mode,
    },
    /// The file is encrypted in another mode than the caller said.
    #[error("{}: the file is encrypted with {found}, not with {given}", file.display())]
    ModeMismatch {
        /// File.
        file: PathBuf,
        /// Mode that its magic number names.
        found: Mode,
        /// Mode that the caller gave.
        given: Mode,
    },
    /// The mode takes no key of this size.
    #[error("{}: {mode} takes a key of {} bytes, but the given one has {size}", file.display(), mode.key_sizes())]
    KeySize {
        /// File.
        file: PathBuf,
        /// Mode of the file.
        mode: Mode,
        /// Bytes of the key.
        size: usize,
    },
    /// There is a key, but the file has none of the magic numbers.
    #[error("{}: a key was given, but the file is not encrypted", file.display())]
    NotEncrypted {
        /// File.
        file: PathBuf,
    },
    /// The key does not fit, or the encrypted bytes were changed.
    #[error("{}: cannot decrypt ({mode}) the record at byte {offset}: {reason}", file.display())]
    Decrypt {
        /// File.
        file: PathBuf,
        /// Mode that its magic number names.
        mode: Mode,
        /// Where the record starts.
        offset: u64,
        /// What went wrong.
        reason: String,
    },
    /// The graph file would be larger than readers take.
    #[error("{}: the file would have {size} bytes; at most 2 GiB can be read: write the weights separately", file.display())]
    TooLarge {
        /// File.
        file: PathBuf,
        /// Bytes that it would have.
        size: u64,
    },
    /// A model that was put together or changed in memory does not hold together.
    #[error("{at}: {reason}")]
    Inconsistent {
        /// The symbol of what is at fault.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An attribute is missing or has another type than it should.
    #[error("{owner}: attribute {name:?}: {reason}")]
    Attribute {
        /// Operator type of the primitive.
        owner: String,
        /// Attribute.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A place in a file; in an encrypted file, a place in the decrypted bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// Byte offset, if known.
    pub offset: Option<u64>,
    /// Path of fields from the outermost message, such as `graph.node[12].attribute[0]`; may be empty.
    pub field: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.offset, self.field.as_str()) {
            (Some(offset), "") => write!(f, "byte {offset}"),
            (Some(offset), field) => write!(f, "byte {offset}, {field}"),
            (None, "") => f.write_str("model"),
            (None, field) => f.write_str(field),
        }
    }
}
