use std::error::Error as StdError;
use std::fmt;

/// What kind of failure it is: what a caller can act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The model cannot be read or contradicts itself.
    InvalidModel,
    /// An argument does not fit: count, type, shape, option.
    InvalidArgument,
    /// Valid, but nobody here can do it.
    Unsupported,
    /// A device or library is absent on this machine.
    Unavailable,
    /// Memory ran out.
    OutOfMemory,
    /// A device failed.
    DeviceLost,
    /// Another rank ended or gave up.
    PeerLost,
    /// Somebody wants the job to end.
    Cancelled,
    /// Something took longer than allowed.
    Timeout,
    /// The ranks' models do not fit each other.
    PlanMismatch,
    /// A defect of this library or of a backend.
    Internal,
}

impl ErrorKind {
    /// Name as it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidModel => "InvalidModel",
            ErrorKind::InvalidArgument => "InvalidArgument",
            ErrorKind::Unsupported => "Unsupported",
            ErrorKind::Unavailable => "Unavailable",
            ErrorKind::OutOfMemory => "OutOfMemory",
            ErrorKind::DeviceLost => "DeviceLost",
            ErrorKind::PeerLost => "PeerLost",
            ErrorKind::Cancelled => "Cancelled",
            ErrorKind::Timeout => "Timeout",
            ErrorKind::PlanMismatch => "PlanMismatch",
            ErrorKind::Internal => "Internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A failure: kind, message, context, cause.
///
/// Its display is one line: the message, then the context, then the causes.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure with a message that says what happened and, where there is something to do, what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None }))
    }

    /// Adds where it happened: `rank`, `backend`, `node`, `op`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, without context and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened, as pairs of key and value.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            let lead = if i == 0 { " (" } else { ", " };
            write!(f, "{lead}{key} {value}")?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<mslite_tensor::Error> for Error {
    fn from(error: mslite_tensor::Error) -> Self {
        let kind = match error {
            mslite_tensor::Error::TooLarge { .. } => ErrorKind::OutOfMemory,
            _ => ErrorKind::InvalidArgument,
        };
        Error::new(kind, error.to_string())
    }
}

impl From<mslite_graph_opt::Error> for Error {
    fn from(error: mslite_graph_opt::Error) -> Self {
        use mslite_graph_opt::Error as G;
        let kind = match error {
            G::Verify(_) => ErrorKind::Internal,
            G::Unsupported { .. } => ErrorKind::Unsupported,
            G::Input { .. } | G::Options(_) => ErrorKind::InvalidArgument,
            _ => ErrorKind::InvalidModel,
        };
        Error::new(kind, error.to_string())
    }
}

impl From<mslite_collective::Error> for Error {
    fn from(error: mslite_collective::Error) -> Self {
        use mslite_collective::Error as C;
        let kind = match error {
            C::PeerLost { .. } | C::Aborted { .. } => ErrorKind::PeerLost,
            // With the cause, which tells who wants it.
            C::Cancelled { .. } => return Error::new(ErrorKind::Cancelled, "the job ends").caused_by(error),
            C::Timeout { .. } => ErrorKind::Timeout,
            C::Mismatch { .. } => ErrorKind::PlanMismatch,
            C::Unsupported(_) => ErrorKind::Unsupported,
            C::InvalidArgument(_) => ErrorKind::InvalidArgument,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.to_string())
    }
}

/// Result of this crate and of backends.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_message_context_and_causes() {
        let io = std::io::Error::other("disk on fire");
        let error =
            Error::new(ErrorKind::Internal, "no answer").with("rank", 1).with("node", "a/b").caused_by(io);
        assert_eq!(error.to_string(), "no answer (rank 1, node a/b): disk on fire");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
}
