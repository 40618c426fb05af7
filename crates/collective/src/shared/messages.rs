//! Messages between two members: a ring of bytes for each ordered pair, through which messages of any size
//! stream.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::group::SharedGroup;
use super::layout::{RING, ring};
use super::memory::Span;
use super::signature::{Encoded, Signature};
use super::wait::Counter;
use crate::{Error, Result};

/// Bytes in front of each message.
pub(super) const HEADER: usize = size_of::<Encoded>();

/// Most bytes that are moved before the other side is told.
const PIECE: usize = RING / 4;

/// Messages that came before the one that was asked for.
#[derive(Debug, Default)]
pub(super) struct Inbox(VecDeque<Message>);

#[derive(Debug)]
struct Message {
    src: usize,
    tag: i64,
    sent: Signature,
    bytes: Vec<u8>,
}

impl SharedGroup {
    pub(super) fn send(&self, dest: usize, signature: &Signature, data: Span) -> Result<()> {
        let _turn = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_failures(&|| self.describe(signature))?;
        let ring = Ring { at: self, src: self.group.rank, dest, signature };
        let words = signature.encode(data.len() as u64);
        let sent = ring.write_words(&words).and_then(|()| ring.write(data));
        sent.inspect_err(|error| self.report(error))
    }

    pub(super) fn receive(&self, src: usize, tag: i64, signature: &Signature, data: Span) -> Result<()> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_failures(&|| self.describe(signature))?;
        let ring = Ring { at: self, src, dest: self.group.rank, signature };
        let received = match inbox.take(src, tag) {
            Some(message) => self.accept(&ring, &message.sent, || {
                data.write(&message.bytes);
                Ok(())
            }),
            None => self.receive_next(&ring, tag, &mut inbox, data),
        };
        received.inspect_err(|error| self.report(error))
    }

    /// Takes messages from the ring, keeping those with other tags for later.
    fn receive_next(&self, ring: &Ring<'_>, tag: i64, inbox: &mut Inbox, data: Span) -> Result<()> {
        loop {
            let words = ring.read_words()?;
            let sent = Signature::decode(&words).ok_or_else(|| ring.damaged())?;
            if words[2].cast_signed() == tag {
                return self.accept(ring, &sent, || ring.read(data));
            }
            let len = usize::try_from(words[4]).map_err(|_| ring.damaged())?;
            let mut bytes = Vec::new();
            while bytes.len() < len {
                let start = bytes.len();
                bytes.resize(len.min(start + PIECE), 0);
                ring.read(Span::of_slice(&mut bytes[start..]))?;
            }
            inbox.0.push_back(Message { src: ring.src, tag: words[2].cast_signed(), sent, bytes });
        }
    }

    fn accept(&self, ring: &Ring<'_>, sent: &Signature, take: impl FnOnce() -> Result<()>) -> Result<()> {
        let fits = |a: &Signature, b: &Signature| (a.dtype, a.count) == (b.dtype, b.count);
        if fits(sent, ring.signature) {
            return take();
        }
        Err(Error::mismatch([
            (self.group.ranks[ring.src], self.describe(sent)),
            (self.group.ranks[ring.dest], self.describe(ring.signature)),
        ]))
    }
}

impl Inbox {
    fn take(&mut self, src: usize, tag: i64) -> Option<Message> {
        let at = self.0.iter().position(|message| message.src == src && message.tag == tag)?;
        self.0.remove(at)
    }
}

/// The ring from one member to another, one of which is this one.
struct Ring<'a> {
    at: &'a SharedGroup,
    src: usize,
    dest: usize,
    signature: &'a Signature,
}

impl Ring<'_> {
    fn write_words(&self, words: &Encoded) -> Result<()> {
        let mut words = *words;
        self.write(Span::of_slice(bytemuck::bytes_of_mut(&mut words)))
    }

    fn read_words(&self) -> Result<Encoded> {
        let mut words = Encoded::default();
        self.read(Span::of_slice(bytemuck::bytes_of_mut(&mut words)))?;
        Ok(words)
    }

    fn write(&self, data: Span) -> Result<()> {
        let mut written = 0;
        while written < data.len() {
            let head = self.head().load();
            let room = |tail: u32| RING - head.wrapping_sub(tail) as usize;
            self.wait(self.tail(), self.dest, |tail| room(tail) > 0)?;
            let len = self.piece(head, room(self.tail().load()), data.len() - written);
            self.bytes(head, len).copy_from(data.part(written..written + len));
            self.head().publish(head.wrapping_add(len as u32));
            written += len;
        }
        Ok(())
    }

    fn read(&self, data: Span) -> Result<()> {
        let mut read = 0;
        while read < data.len() {
            let tail = self.tail().load();
            let there = |head: u32| head.wrapping_sub(tail) as usize;
            self.wait(self.head(), self.src, |head| there(head) > 0)?;
            let len = self.piece(tail, there(self.head().load()), data.len() - read);
            data.part(read..read + len).copy_from(self.bytes(tail, len));
            self.tail().publish(tail.wrapping_add(len as u32));
            read += len;
        }
        Ok(())
    }

    fn wait(&self, counter: Counter<'_>, peer: usize, ready: impl Fn(u32) -> bool) -> Result<()> {
        let is_missing = |_| !ready(counter.load());
        counter.wait(self.at.member.patience, &ready, |waited| {
            let peers = std::iter::once(peer);
            self.at.check_progress(peers, &is_missing, waited, &|| self.at.describe(self.signature))
        })
    }

    /// Bytes that can be moved at once: what is available, up to the end of the ring.
    fn piece(&self, position: u32, available: usize, wanted: usize) -> usize {
        available.min(wanted).min(PIECE).min(RING - position as usize % RING)
    }

    fn bytes(&self, position: u32, len: usize) -> Span {
        let start = self.at.channel.ring_bytes(self.src, self.dest) + position as usize % RING;
        self.at.span(start, len)
    }

    fn head(&self) -> Counter<'_> {
        Counter::at(&self.at.region, self.at.channel.ring(self.src, self.dest) + ring::HEAD)
    }

    fn tail(&self) -> Counter<'_> {
        Counter::at(&self.at.region, self.at.channel.ring(self.src, self.dest) + ring::TAIL)
    }

    fn damaged(&self) -> Error {
        let rank = self.at.group.ranks[self.src];
        super::member::lost(rank, "its message is damaged", self.at.describe(self.signature))
    }
}
