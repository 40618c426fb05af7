//! What stands in front of data: which operation of which group they belong to.

use super::group::MpiGroup;
use crate::Error;
use crate::shared::Signature;

/// Bytes of a header.
pub(super) const LEN: usize = 7 * 8;

/// The description of an operation, as members compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) world: u64,
    /// The group, by name and ranks.
    scope: u64,
    /// Kind, reduction, dtype, root or peer, tag, count.
    words: [u64; 4],
    /// Which of the group's collectives it is; of a message, the number of bytes.
    pub(super) number: u64,
}

impl Header {
    pub(super) fn new(at: &MpiGroup, signature: &Signature, number: u64) -> Self {
        let [a, b, c, d, number] = signature.encode(number);
        Header { world: at.member.world, scope: at.scope, words: [a, b, c, d], number }
    }

    pub(super) fn encode(&self) -> [u8; LEN] {
        let [a, b, c, d] = self.words;
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(bytemuck::bytes_of(
            &[self.world, self.scope, a, b, c, d, self.number].map(u64::to_le),
        ));
        bytes
    }

    /// The header at the beginning of a message; `None` if there is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let words = bytes.get(..LEN)?.as_chunks().0;
        let mut words = words.iter().map(|&word| u64::from_le_bytes(word));
        let mut next = || words.next();
        let (world, scope) = (next()?, next()?);
        Some(Header { world, scope, words: [next()?, next()?, next()?, next()?], number: next()? })
    }

    pub(super) fn signature(&self) -> Option<Signature> {
        let [a, b, c, d] = self.words;
        Signature::decode(&[a, b, c, d, self.number])
    }

    /// The tag of a message between two ranks.
    pub(super) fn message_tag(&self) -> i64 {
        self.words[2].cast_signed()
    }

    /// Whether it announces a message of the type and length that `wanted` describes.
    pub(super) fn fits(&self, wanted: &Signature) -> bool {
        self.signature().is_some_and(|sent| (sent.dtype, sent.count) == (wanted.dtype, wanted.count))
    }
}

/// The error when two members, each with its header, do not do the same.
pub(super) fn mismatch(at: &MpiGroup, mine: (usize, &Header), other: (usize, &Header)) -> Error {
    let describe = |(member, header): (usize, &Header)| {
        let signature = header.signature();
        let text = signature.map_or_else(|| "something unknown".to_owned(), |s| at.describe(&s));
        let text = match (mine.1.scope == other.1.scope, mine.1.words == other.1.words) {
            (false, _) => format!("{text}, whose ranks differ"),
            (true, true) => format!("{text}, as its collective {}", header.number),
            (true, false) => text,
        };
        (at.group.ranks[member], text)
    };
    Error::mismatch([describe(mine), describe(other)])
}
