use std::fmt;
use std::str::FromStr;

use crate::GroupName;

/// How contributions are combined, element by element, in the order of the ranks.
///
/// `F16` and `BF16` are accumulated in `F32` and rounded once. Integers wrap. For `Bool`, sum and max are "or",
/// prod and min are "and". Complex numbers have sum, prod and mean only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// Sum.
    Sum,
    /// Largest; NaN if any contribution is NaN.
    Max,
    /// Smallest; NaN if any contribution is NaN.
    Min,
    /// Product.
    Prod,
    /// Sum divided by the number of ranks (MindSpore: `avg`); for integers the quotient is truncated towards 0.
    Mean,
}

impl Reduction {
    /// Every reduction.
    pub const ALL: [Reduction; 5] =
        [Reduction::Sum, Reduction::Max, Reduction::Min, Reduction::Prod, Reduction::Mean];

    /// Name in text forms.
    pub const fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Max => "max",
            Reduction::Min => "min",
            Reduction::Prod => "prod",
            Reduction::Mean => "mean",
        }
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reduction {
    type Err = ParseOpError;

    /// Reads a name; MindSpore's `avg` means [`Reduction::Mean`].
    fn from_str(text: &str) -> Result<Self, ParseOpError> {
        let name = if text == "avg" { "mean" } else { text };
        Reduction::ALL.into_iter().find(|r| r.name() == name).ok_or_else(|| ParseOpError::new(text))
    }
}

/// What the ranks of a group do together. Ranks are counted within the group.
///
/// A *block* is what one rank contributes to, or takes from, a larger buffer; blocks stand in the order of the
/// ranks, so that gathering concatenates along axis 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CollectiveKind {
    /// Every rank gets the reduction of all `send` buffers.
    AllReduce(Reduction),
    /// Every rank gets all `send` buffers: `recv` has one block for each rank.
    AllGather,
    /// `send` has a block for each rank; every rank gets the reduction of all blocks meant for it.
    ReduceScatter(Reduction),
    /// Every rank gets the root's `send` buffer, as large as every `recv`; `send` of the others is not used.
    Broadcast {
        /// Whose data.
        root: usize,
    },
    /// The root gets the reduction of all `send` buffers; `recv` of the others is not used.
    Reduce {
        /// Who gets it.
        root: usize,
        /// How.
        reduction: Reduction,
    },
    /// The root gets all `send` buffers; `recv` of the others is not used.
    Gather {
        /// Who gets them.
        root: usize,
    },
    /// Every rank gets its block of the root's `send` buffer; `send` of the others is not used.
    Scatter {
        /// Whose data.
        root: usize,
    },
    /// Block `j` of `send` goes to rank `j`; block `i` of `recv` comes from rank `i`.
    AllToAll,
    /// `send` goes to one rank; `recv` is not touched.
    Send {
        /// To whom.
        dest: usize,
        /// Which of the messages between these two ranks.
        tag: i64,
    },
    /// `recv` comes from one rank; `send` is not touched.
    Receive {
        /// From whom.
        src: usize,
        /// Which of the messages between these two ranks.
        tag: i64,
    },
    /// Nobody goes on before everybody has come; both buffers are not touched.
    Barrier,
}

impl CollectiveKind {
    /// The reduction, of those that reduce.
    pub fn reduction(&self) -> Option<Reduction> {
        match *self {
            CollectiveKind::AllReduce(reduction)
            | CollectiveKind::ReduceScatter(reduction)
            | CollectiveKind::Reduce { reduction, .. } => Some(reduction),
            _ => None,
        }
    }

    /// The other or distinguished rank within the group, of those that name one.
    pub fn peer(&self) -> Option<usize> {
        match *self {
            CollectiveKind::Broadcast { root }
            | CollectiveKind::Reduce { root, .. }
            | CollectiveKind::Gather { root }
            | CollectiveKind::Scatter { root } => Some(root),
            CollectiveKind::Send { dest, .. } => Some(dest),
            CollectiveKind::Receive { src, .. } => Some(src),
            _ => None,
        }
    }

    /// The tag, of messages between two ranks.
    pub fn tag(&self) -> Option<i64> {
        match *self {
            CollectiveKind::Send { tag, .. } | CollectiveKind::Receive { tag, .. } => Some(tag),
            _ => None,
        }
    }
}

impl fmt::Display for CollectiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CollectiveKind::AllReduce(reduction) => write!(f, "all_reduce({reduction})"),
            CollectiveKind::AllGather => f.write_str("all_gather"),
            CollectiveKind::ReduceScatter(reduction) => write!(f, "reduce_scatter({reduction})"),
            CollectiveKind::Broadcast { root } => write!(f, "broadcast(root={root})"),
            CollectiveKind::Reduce { root, reduction } => write!(f, "reduce({reduction}, root={root})"),
            CollectiveKind::Gather { root } => write!(f, "gather(root={root})"),
            CollectiveKind::Scatter { root } => write!(f, "scatter(root={root})"),
            CollectiveKind::AllToAll => f.write_str("all_to_all"),
            CollectiveKind::Send { dest, tag } => write!(f, "send(dest={dest}, tag={tag})"),
            CollectiveKind::Receive { src, tag } => write!(f, "receive(src={src}, tag={tag})"),
            CollectiveKind::Barrier => f.write_str("barrier"),
        }
    }
}

impl FromStr for CollectiveKind {
    type Err = ParseOpError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ParseOpError> {
        parse_kind(text.trim()).ok_or_else(|| ParseOpError::new(text))
    }
}

fn parse_kind(text: &str) -> Option<CollectiveKind> {
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
        None => (text, ""),
    };
    let mut arguments = arguments.split(',').map(str::trim).filter(|a| !a.is_empty());
    let kind = match name {
        "all_reduce" => CollectiveKind::AllReduce(arguments.next()?.parse().ok()?),
        "all_gather" => CollectiveKind::AllGather,
        "reduce_scatter" => CollectiveKind::ReduceScatter(arguments.next()?.parse().ok()?),
        "broadcast" => CollectiveKind::Broadcast { root: named(arguments.next(), "root")? },
        "reduce" => CollectiveKind::Reduce {
            reduction: arguments.next()?.parse().ok()?,
            root: named(arguments.next(), "root")?,
        },
        "gather" => CollectiveKind::Gather { root: named(arguments.next(), "root")? },
        "scatter" => CollectiveKind::Scatter { root: named(arguments.next(), "root")? },
        "all_to_all" => CollectiveKind::AllToAll,
        "send" => CollectiveKind::Send {
            dest: named(arguments.next(), "dest")?,
            tag: named(arguments.next(), "tag")?,
        },
        "receive" => CollectiveKind::Receive {
            src: named(arguments.next(), "src")?,
            tag: named(arguments.next(), "tag")?,
        },
        "barrier" => CollectiveKind::Barrier,
        _ => return None,
    };
    arguments.next().is_none().then_some(kind)
}

fn named<T: FromStr>(argument: Option<&str>, name: &str) -> Option<T> {
    argument?.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim().parse().ok()
}

/// A collective operation as data: what is done, and by whom.
///
/// ```
/// use mslite_collective::{CollectiveKind, CollectiveOp, Reduction};
///
/// let op = CollectiveOp::new(CollectiveKind::AllReduce(Reduction::Sum), "hccl_world_group");
/// assert_eq!(op.to_string(), r#"all_reduce(sum) group="hccl_world_group""#);
/// assert_eq!(op.to_string().parse(), Ok(op));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CollectiveOp {
    /// What.
    pub kind: CollectiveKind,
    /// By whom.
    pub group: GroupName,
}

impl CollectiveOp {
    /// An operation from its parts.
    pub fn new(kind: CollectiveKind, group: impl Into<GroupName>) -> Self {
        CollectiveOp { kind, group: group.into() }
    }
}

impl fmt::Display for CollectiveOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} group=\"", self.kind)?;
        for c in self.group.as_str().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "{}", c.escape_unicode())?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl FromStr for CollectiveOp {
    type Err = ParseOpError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, ParseOpError> {
        let error = || ParseOpError::new(text);
        let (kind, group) = text.split_once("group=\"").ok_or_else(error)?;
        let group = group.trim_end().strip_suffix('"').and_then(unescape).ok_or_else(error)?;
        Ok(CollectiveOp { kind: kind.parse()?, group: group.as_str().into() })
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => match chars.next()? {
                'u' => {
                    let rest = chars.as_str().strip_prefix('{')?;
                    let (digits, rest) = rest.split_once('}')?;
                    out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                    chars = rest.chars();
                }
                escaped => out.push(escaped),
            },
            c => out.push(c),
        }
    }
    Some(out)
}

/// Text that is no collective operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as a collective operation (such as `all_reduce(sum) group=\"name\"`)")]
pub struct ParseOpError {
    text: String,
}

impl ParseOpError {
    fn new(text: &str) -> Self {
        ParseOpError { text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        for (kind, text) in [
            (CollectiveKind::AllReduce(Reduction::Mean), "all_reduce(mean)"),
            (CollectiveKind::AllGather, "all_gather"),
            (CollectiveKind::ReduceScatter(Reduction::Max), "reduce_scatter(max)"),
            (CollectiveKind::Broadcast { root: 3 }, "broadcast(root=3)"),
            (CollectiveKind::Reduce { root: 1, reduction: Reduction::Prod }, "reduce(prod, root=1)"),
            (CollectiveKind::Gather { root: 0 }, "gather(root=0)"),
            (CollectiveKind::Scatter { root: 2 }, "scatter(root=2)"),
            (CollectiveKind::AllToAll, "all_to_all"),
            (CollectiveKind::Send { dest: 1, tag: -7 }, "send(dest=1, tag=-7)"),
            (CollectiveKind::Receive { src: 0, tag: 9 }, "receive(src=0, tag=9)"),
            (CollectiveKind::Barrier, "barrier"),
        ] {
            assert_eq!(kind.to_string(), text);
            assert_eq!(text.parse(), Ok(kind.clone()));
            for group in ["hccl_world_group", "a \"b\" \\ group=\"\n\u{1}é", ""] {
                let op = CollectiveOp::new(kind.clone(), group);
                assert_eq!(op.to_string().parse(), Ok(op));
            }
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "all_reduce(sum)",
            "all_reduce group=\"g\"",
            "all_reduce(sum, sum) group=\"g\"",
            "broadcast(root=-1) group=\"g\"",
            "barrier(0) group=\"g\"",
            "barrier group=\"g",
            "barrier group=\"g\"h\"",
            "barrier group=\"\\u{110000}\"",
        ] {
            assert!(text.parse::<CollectiveOp>().is_err(), "{text}");
        }
        assert_eq!("avg".parse(), Ok(Reduction::Mean));
    }
}
