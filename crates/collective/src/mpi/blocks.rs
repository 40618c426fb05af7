use std::sync::Arc;

use crate::shared::Span;

/// Memory for messages, used again and again.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    to_fill: Vec<Box<[u8]>>,
    to_send: Vec<Arc<[u8]>>,
}

impl Blocks {
    /// A block for at most `len` bytes to come.
    pub(super) fn to_fill(&mut self, len: usize) -> Box<[u8]> {
        let fits = self.to_fill.iter().rposition(|block| block.len() >= len);
        fits.map_or_else(|| vec![0; len].into(), |at| self.to_fill.swap_remove(at))
    }

    /// Takes a block back that has been used.
    pub(super) fn filled(&mut self, block: Box<[u8]>) {
        self.to_fill.push(block);
    }

    /// A block of at least `capacity` bytes that begins with these spans, one after the other. It is used again when
    /// nobody else holds it any more.
    pub(super) fn to_send(&mut self, capacity: usize, spans: &[Span]) -> Arc<[u8]> {
        let mut is_free = |block: &mut Arc<[u8]>| block.len() >= capacity && Arc::get_mut(block).is_some();
        let at = self.to_send.iter_mut().position(&mut is_free).unwrap_or_else(|| {
            self.to_send.push(vec![0; capacity].into());
            self.to_send.len() - 1
        });
        let block = &mut self.to_send[at];
        let bytes = Arc::get_mut(block).expect("the block is free, or new");
        let mut start = 0;
        for span in spans {
            span.read(&mut bytes[start..start + span.len()]);
            start += span.len();
        }
        Arc::clone(block)
    }
}
