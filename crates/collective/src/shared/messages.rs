//! Messages between two members: a ring of bytes for each ordered pair, through which messages of any size stream. One
//! that the ring cannot keep, so that its sender waits in any case, is read where it is, if the receiver reaches it.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::SEND_CAPACITY;
use super::group::SharedGroup;
use super::layout::{RING, ring};
use super::memory::Span;
use super::segments::Opened;
use super::signature::{Encoded, Manner, Signature};
use super::sync::sized;
use super::wait::Counter;
use crate::{Error, Result};

/// Bytes in front of each message.
pub(super) const HEADER: usize = size_of::<Encoded>();

/// Most bytes that are moved before the other side is told.
const PIECE: usize = RING / sized(4, 2);

/// What follows the place of a message; the sender goes on when it is taken.
const SEAL: u8 = 0x5e;

/// What a member has of messages to it.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Those that came before the one that was asked for.
    early: VecDeque<Message>,
    opened: Opened,
}

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
        let sent = match self.place_of(dest, data) {
            Some(place) => ring.write_place(place, data.len()),
            None => ring.write_words(&signature.encode(data.len() as u64)).and_then(|()| ring.write(data)),
        };
        sent.inspect_err(|error| self.report(error))
    }

    /// Where the receiver finds a message that is not kept for it. Not among threads: memory may go when its owner has
    /// failed, while another one still reads.
    fn place_of(&self, dest: usize, data: Span) -> Option<u64> {
        let is_elsewhere = dest != self.group.rank && !self.member.is_one_process;
        let is_found = data.len() > SEND_CAPACITY && is_elsewhere;
        let [place] = self.member.places([Some(data).filter(|_| is_found)]);
        Some(place).filter(|&place| place != 0)
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
            let len = usize::try_from(Signature::number(&words)).map_err(|_| ring.damaged())?;
            let is_placed = Signature::manner(&words) == Manner::Elsewhere;
            if words[2].cast_signed() == tag {
                return self.accept(ring, &sent, || match is_placed {
                    true => ring.read_place(&mut inbox.opened, data),
                    false => ring.read(data),
                });
            }
            let mut bytes = Vec::new();
            if is_placed {
                bytes.resize(len, 0);
                ring.read_place(&mut inbox.opened, Span::of_slice(&mut bytes))?;
            }
            while bytes.len() < len {
                let start = bytes.len();
                bytes.resize(len.min(start + PIECE), 0);
                ring.read(Span::of_slice(&mut bytes[start..]))?;
            }
            inbox.early.push_back(Message { src: ring.src, tag: words[2].cast_signed(), sent, bytes });
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

impl Default for Inbox {
    fn default() -> Self {
        Inbox { early: VecDeque::new(), opened: Opened::of(1) }
    }
}

impl Inbox {
    fn take(&mut self, src: usize, tag: i64) -> Option<Message> {
        let at = self.early.iter().position(|message| message.src == src && message.tag == tag)?;
        self.early.remove(at)
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

    /// Sends where a message is, and waits until it has been read.
    fn write_place(&self, place: u64, len: usize) -> Result<()> {
        let words = self.signature.encode(len as u64);
        self.write_words(&Signature::with_manner(words, Manner::Elsewhere))?;
        let mut bytes = [SEAL; 9];
        bytes[..8].copy_from_slice(&place.to_ne_bytes());
        self.write(Span::of_slice(&mut bytes))?;
        let all = self.head().load();
        self.wait(self.tail(), self.dest, |tail| tail == all)
    }

    /// Reads a message where it is, and then says so.
    fn read_place(&self, opened: &mut Opened, data: Span) -> Result<()> {
        let mut place = [0; 8];
        self.read(Span::of_slice(&mut place))?;
        let (place, rank) = (u64::from_ne_bytes(place), self.at.group.ranks[self.src]);
        opened.begin();
        opened.find(&self.at.member, rank, [place, 0])?;
        let place = opened.place(0, 0).ok_or_else(|| self.damaged())?;
        data.copy_from(opened.span(rank, place, data.len()));
        self.at.check_undisturbed(&|| self.at.describe(self.signature))?;
        self.read(Span::of_slice(&mut [0]))
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
