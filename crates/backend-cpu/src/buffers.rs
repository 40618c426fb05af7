//! Which pieces of memory lie in which.

use crate::arena::Place;

/// Number of a piece.
pub(crate) type Piece = usize;

/// Pieces of memory of which some lie in others: parts of a value, and values that take over the memory of one that
/// nobody reads any more. A piece that lies in no other is a *buffer*.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// By piece: the piece in which it lies, perhaps itself, and at which byte.
    within: Vec<(Piece, usize)>,
    /// By piece: its bytes.
    sizes: Vec<usize>,
    /// By buffer: where it starts, if that is settled.
    homes: Vec<Option<Home>>,
}

/// A byte of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) base: usize,
    pub(crate) offset: usize,
}

impl Buffers {
    /// A new buffer.
    pub(crate) fn push(&mut self, size: usize) -> Piece {
        let piece = self.within.len();
        self.within.push((piece, 0));
        self.sizes.push(size);
        self.homes.push(None);
        piece
    }

    /// A new piece of another one, from byte `at` on.
    pub(crate) fn push_part(&mut self, whole: Piece, at: usize, size: usize) -> Piece {
        let part = self.push(size);
        self.join(part, whole, at);
        part
    }

    /// Puts a buffer, with all that lies in it, into a piece of another buffer, from byte `at` on.
    pub(crate) fn join(&mut self, buffer: Piece, whole: Piece, at: usize) {
        let (root, offset) = self.find(whole);
        debug_assert!(root != buffer && self.within[buffer].0 == buffer, "only a whole buffer is moved");
        self.within[buffer] = (root, offset + at);
    }

    /// The buffer in which a piece lies, and at which byte.
    pub(crate) fn find(&mut self, piece: Piece) -> (Piece, usize) {
        let (mut root, mut offset) = self.within[piece];
        while self.within[root].0 != root {
            let (next, more) = self.within[root];
            (root, offset) = (next, offset + more);
        }
        let (mut at, mut left) = (piece, offset);
        while self.within[at].0 != root {
            let (next, passed) = self.within[at];
            self.within[at] = (root, left);
            (at, left) = (next, left - passed);
        }
        (root, offset)
    }

    /// The buffer that a piece fills, if it fills one.
    pub(crate) fn filled(&mut self, piece: Piece) -> Option<Piece> {
        let (buffer, offset) = self.find(piece);
        (offset == 0 && self.sizes[buffer] == self.sizes[piece]).then_some(buffer)
    }

    /// The buffer that a piece fills, if it fills one whose home is not settled.
    pub(crate) fn filled_free(&mut self, piece: Piece) -> Option<Piece> {
        self.filled(piece).filter(|&buffer| self.is_free(buffer))
    }

    /// Number of pieces.
    pub(crate) fn count(&self) -> usize {
        self.sizes.len()
    }

    /// Bytes of a piece.
    pub(crate) fn size(&self, piece: Piece) -> usize {
        self.sizes[piece]
    }

    /// Whether the home of a buffer is not settled.
    pub(crate) fn is_free(&self, buffer: Piece) -> bool {
        self.homes[buffer].is_none()
    }

    /// Settles where a buffer starts.
    pub(crate) fn settle(&mut self, buffer: Piece, base: usize, offset: usize) {
        self.homes[buffer] = Some(Home { base, offset });
    }

    /// Where a piece is; what has no home is nowhere.
    pub(crate) fn place(&mut self, piece: Piece) -> Place {
        let (buffer, offset) = self.find(piece);
        match self.homes[buffer] {
            Some(home) => Place { base: home.base, offset: home.offset + offset, len: self.sizes[piece] },
            None => Place { base: 0, offset: 0, len: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_parts_lie_where_both_offsets_say() {
        let mut buffers = Buffers::default();
        let v: Vec<Piece> = [100, 60, 20, 20, 10].into_iter().map(|size| buffers.push(size)).collect();
        for (part, whole, at) in [(2, 1, 40), (4, 2, 5), (1, 0, 8)] {
            let part = buffers.find(v[part]).0;
            buffers.join(part, v[whole], at);
        }
        for _ in 0..2 {
            let found: Vec<_> = v.iter().map(|&v| buffers.find(v)).collect();
            assert_eq!(found, [(0, 0), (0, 8), (0, 48), (3, 0), (0, 53)]);
        }
        let filled = [v[3], v[0], v[1]].map(|v| buffers.filled(v));
        assert_eq!(filled, [Some(3), Some(0), None]);
        buffers.settle(0, 7, 1000);
        assert_eq!(buffers.place(v[4]), Place { base: 7, offset: 1053, len: 10 });
    }
}
