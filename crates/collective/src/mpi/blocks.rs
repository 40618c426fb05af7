use std::sync::Arc;

use crate::shared::Span;

/// Memory for messages, used again and again.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    empty: Vec<Box<[u8]>>,
    sent: Vec<Arc<[u8]>>,
}

impl Blocks {
    /// A block for at most `len` bytes to come.
    pub(super) fn empty(&mut self, len: usize) -> Box<[u8]> {
        let fits = self.empty.iter().rposition(|block| block.len() >= len);
        fits.map_or_else(|| vec![0; len].into(), |at| self.empty.swap_remove(at))
    }

    /// Takes a block back that has been used.
    pub(super) fn give_back(&mut self, block: Box<[u8]>) {
        self.empty.push(block);
    }

    /// A block of at least `capacity` bytes that begins with these spans, one after the other. It is used again when
    /// nobody else holds it any more.
    pub(super) fn filled(&mut self, capacity: usize, spans: &[Span]) -> Arc<[u8]> {
        let mut is_free = |block: &mut Arc<[u8]>| block.len() >= capacity && Arc::get_mut(block).is_some();
        let at = self.sent.iter_mut().position(&mut is_free).unwrap_or_else(|| {
            self.sent.push(vec![0; capacity].into());
            self.sent.len() - 1
        });
        let block = &mut self.sent[at];
        let bytes = Arc::get_mut(block).expect("the block is free, or new");
        let mut start = 0;
        for span in spans {
            span.read(&mut bytes[start..start + span.len()]);
            start += span.len();
        }
        Arc::clone(block)
    }
}
