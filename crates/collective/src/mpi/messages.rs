//! Messages between two members. The beginning of a message goes without waiting for the receiver.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::group::MpiGroup;
use super::header::{self, Header};
use super::library::{Received, Receiving, Sending};
use super::member::{Context, lost};
use super::plan::{ONE_SHOT, largest_message};
use super::wait::Awaited;
use crate::call::Call;
use crate::shared::{Signature, Span};
use crate::{CollectiveKind, Error, Result};

/// Messages that came before the one that was asked for.
#[derive(Debug, Default)]
pub(super) struct Inbox(VecDeque<Message>);

#[derive(Debug)]
struct Message {
    src: usize,
    header: Header,
    bytes: Vec<u8>,
}

/// The other side of a message, and what it is.
struct Line<'a> {
    at: &'a MpiGroup,
    /// World rank of the other side.
    rank: usize,
    signature: &'a Signature,
}

impl MpiGroup {
    pub(super) fn send(&self, dest: usize, kind: &CollectiveKind, call: &Call<Span>) -> Result<()> {
        let signature = Signature::new(kind, call.dtype, call.count);
        let mut blocks = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&|| self.describe(&signature))?;
        let line = Line { at: self, rank: self.group.ranks[dest], signature: &signature };
        let data = call.send.unwrap_or(Span::EMPTY);
        let mut words = Header::new(self, &signature, data.len() as u64).encode();
        let first = data.part(0..data.len().min(ONE_SHOT));
        let spans = [Span::of_slice(&mut words), first];
        let block = blocks.filled(header::LEN + ONE_SHOT, &spans);
        let posted = line.start(&block, header::LEN + first.len()).and_then(|sending| {
            let last_words = |rank: usize| format!("rank {rank} has not received");
            let operation = || self.describe(&signature);
            let context = Context { scope: self.scope, operation: &operation, last_words: &last_words };
            self.member.post(header::LEN + first.len(), sending, line.rank, &context)
        });
        let step = largest_message(2);
        let rest = (first.len()..data.len()).step_by(step);
        let sent = posted.and_then(|()| {
            rest.clone().try_for_each(|at| {
                let piece = data.part(at..data.len().min(at + step));
                let block = blocks.filled(step, &[piece]);
                line.wait(&mut Gone { line: &line, sending: line.start(&block, piece.len())? })
            })
        });
        sent.or_else(|error| self.member.fail(self.scope, error))
    }

    pub(super) fn receive(
        &self,
        src: usize,
        tag: i64,
        kind: &CollectiveKind,
        call: &Call<Span>,
    ) -> Result<()> {
        let signature = Signature::new(kind, call.dtype, call.count);
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&|| self.describe(&signature))?;
        let line = Line { at: self, rank: self.group.ranks[src], signature: &signature };
        let data = call.recv.unwrap_or(Span::EMPTY);
        let received = match inbox.take(src, tag) {
            Some(message) => line.accept(&message.header).map(|()| data.write(&message.bytes)),
            None => line.receive(src, tag, &mut inbox, data),
        };
        received.or_else(|error| self.member.fail(self.scope, error))
    }
}

impl Inbox {
    fn take(&mut self, src: usize, tag: i64) -> Option<Message> {
        let fits = |message: &Message| message.src == src && message.header.message_tag() == tag;
        let at = self.0.iter().position(fits)?;
        self.0.remove(at)
    }
}

impl Line<'_> {
    fn start(&self, block: &std::sync::Arc<[u8]>, len: usize) -> Result<Sending> {
        let sending = self.at.member.communicator.send(block, len, self.rank, self.at.message_tag());
        sending.map_err(|error| self.lost(&error.to_string()))
    }

    /// Takes messages, keeping those with other tags for later.
    fn receive(&self, src: usize, tag: i64, inbox: &mut Inbox, data: Span) -> Result<()> {
        loop {
            let first = self.next(header::LEN + ONE_SHOT)?;
            let header = Header::decode(&first.block[..first.len])
                .ok_or_else(|| self.lost("its message is damaged"))?;
            if header.world != self.at.member.world {
                continue;
            }
            let first = &first.block[header::LEN..first.len];
            if header.message_tag() == tag {
                self.accept(&header)?;
                return self.fill(data, first);
            }
            let len = usize::try_from(header.number).map_err(|_| self.lost("its message is damaged"))?;
            let mut bytes = vec![0; len];
            self.fill(Span::of_slice(&mut bytes), first)?;
            inbox.0.push_back(Message { src, header, bytes });
        }
    }

    /// Fills the data with the beginning of a message, and with what comes after it.
    fn fill(&self, data: Span, first: &[u8]) -> Result<()> {
        let mut filled = 0;
        let mut put = |bytes: &[u8]| {
            let end = filled + bytes.len();
            if end > data.len() {
                return Err(self.lost("its message is longer than it said"));
            }
            data.part(filled..end).write(bytes);
            filled = end;
            Ok(end < data.len())
        };
        let mut goes_on = put(first)?;
        while goes_on {
            let piece = self.next(largest_message(2))?;
            goes_on = put(&piece.block[..piece.len])?;
        }
        Ok(())
    }

    fn accept(&self, sent: &Header) -> Result<()> {
        if sent.fits(self.signature) {
            return Ok(());
        }
        let theirs =
            sent.signature().map_or_else(|| "something unknown".to_owned(), |s| self.at.describe(&s));
        Err(Error::mismatch([
            (self.rank, theirs),
            (self.at.group.world_rank(), self.at.describe(self.signature)),
        ]))
    }

    fn next(&self, capacity: usize) -> Result<Received> {
        let block = vec![0; capacity].into();
        let receiving = self.at.member.communicator.receive(block, Some(self.rank), self.at.message_tag());
        let receiving = receiving.map_err(|error| self.lost(&error.to_string()))?;
        let mut come = Come { line: self, receiving, received: None };
        self.wait(&mut come)?;
        come.received.ok_or_else(|| self.lost("its message is damaged"))
    }

    fn wait(&self, what: &mut dyn Awaited) -> Result<()> {
        let operation = || self.at.describe(self.signature);
        let last_words = |rank: usize| format!("rank {rank} has not come to this message");
        let context = Context { scope: self.at.scope, operation: &operation, last_words: &last_words };
        self.at.member.wait(what, &context)
    }

    fn lost(&self, reason: &str) -> Error {
        lost(self.rank, reason, self.at.describe(self.signature))
    }
}

/// A message until it has gone.
struct Gone<'a> {
    line: &'a Line<'a>,
    sending: Sending,
}

impl Awaited for Gone<'_> {
    fn is_done(&mut self) -> Result<bool> {
        self.sending.is_done().map_err(|error| self.line.lost(&error.to_string()))
    }

    fn missing(&mut self) -> Result<Vec<usize>> {
        Ok(if self.is_done()? { Vec::new() } else { vec![self.line.rank] })
    }
}

/// A message until it has come.
struct Come<'a> {
    line: &'a Line<'a>,
    receiving: Receiving,
    received: Option<Received>,
}

impl Awaited for Come<'_> {
    fn is_done(&mut self) -> Result<bool> {
        if self.received.is_none() {
            self.received = self.receiving.poll().map_err(|error| self.line.lost(&error.to_string()))?;
        }
        Ok(self.received.is_some())
    }

    fn missing(&mut self) -> Result<Vec<usize>> {
        Ok(if self.is_done()? { Vec::new() } else { vec![self.line.rank] })
    }
}
