use std::fmt;

use mslite_runtime::ErrorKind;

/// MindSpore Lite's status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusCode(pub u32);

/// The number of a Lite code: `0xF0000000 | (0x0FFFFFFF & -n)`.
const fn lite(n: u32) -> StatusCode {
    StatusCode(0xF000_0000 | (0x0FFF_FFFF & n.wrapping_neg()))
}

impl StatusCode {
    /// No error.
    pub const SUCCESS: StatusCode = StatusCode(0);
    /// Common error.
    pub const LITE_ERROR: StatusCode = lite(1);
    /// Invalid parameter.
    pub const LITE_PARAM_INVALID: StatusCode = lite(3);
    /// Memory ran out.
    pub const LITE_MEMORY_FAILED: StatusCode = lite(6);
    /// Not supported.
    pub const LITE_NOT_SUPPORT: StatusCode = lite(7);
    /// The model cannot be read.
    pub const LITE_GRAPH_FILE_ERROR: StatusCode = lite(200);
    /// Invalid input of the user.
    pub const LITE_INPUT_PARAM_INVALID: StatusCode = lite(600);

    /// The code that MindSpore Lite has for a kind of failure.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidModel => StatusCode::LITE_GRAPH_FILE_ERROR,
            ErrorKind::InvalidArgument => StatusCode::LITE_INPUT_PARAM_INVALID,
            ErrorKind::Unsupported | ErrorKind::Unavailable => StatusCode::LITE_NOT_SUPPORT,
            ErrorKind::OutOfMemory => StatusCode::LITE_MEMORY_FAILED,
            ErrorKind::PlanMismatch => StatusCode::LITE_PARAM_INVALID,
            _ => StatusCode::LITE_ERROR,
        }
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_two_complement_with_a_high_nibble() {
        assert_eq!(StatusCode::LITE_ERROR.0, 0xFFFF_FFFF);
        assert_eq!(StatusCode::LITE_GRAPH_FILE_ERROR.0, 0xFFFF_FF38);
        assert_eq!(StatusCode::of(ErrorKind::InvalidModel).to_string(), "0xffffff38");
    }
}
