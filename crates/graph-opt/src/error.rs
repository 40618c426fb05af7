/// What can go wrong with graphs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invariant of the IR does not hold: a defect in whoever built the graph.
    #[error("the graph is not valid: {0}")]
    Verify(String),
    /// Operands do not fit an operation.
    #[error("{op} does not fit its operands ({operands}) at {origin}: {reason}")]
    Infer {
        /// Name of the operation.
        op: String,
        /// MindIR scope of the node.
        origin: String,
        /// Types of the operands.
        operands: String,
        /// What is wrong.
        reason: String,
    },
    /// The model uses something that cannot be imported.
    #[error("{what} at {origin} is not supported: {reason}")]
    Unsupported {
        /// Primitive or construct.
        what: String,
        /// MindIR scope of the node.
        origin: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The model contradicts itself.
    #[error("the model is not valid at {origin}: {reason}")]
    InvalidModel {
        /// MindIR scope of the node, or name of what is wrong.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Inputs do not fit the graph.
    #[error("input {name:?} {reason}")]
    Input {
        /// Name of the input.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Options that contradict what there is.
    #[error("{0}")]
    Options(String),
    /// Text that is not a graph.
    #[error("line {line}: {reason}")]
    Parse {
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
