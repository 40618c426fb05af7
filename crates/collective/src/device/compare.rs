//! Comparing what members are about to do, over the control world.

use crate::{Collective, CollectiveExt, CollectiveKind, Error, Group, Result};

/// Bytes of a description, which is short: a kind, a type, numbers.
const RECORD: usize = 192;

/// An operation as the others see it.
pub(crate) struct Description<'a> {
    pub(crate) kind: &'a CollectiveKind,
    /// Type and number of elements.
    pub(crate) what: String,
    /// How many operations came before: in the group, or for messages from this source to this destination.
    pub(crate) number: u64,
}

impl Description<'_> {
    /// # Errors
    /// [`Error::Mismatch`] at every member when two of them do not do the same; the control group's own.
    pub(crate) fn compare(&self, control: &dyn Collective) -> Result<()> {
        match *self.kind {
            CollectiveKind::Send { dest, tag } => control.send(&self.record(), dest, tag),
            CollectiveKind::Receive { src, tag } => self.compare_message(control, src, tag),
            _ => self.compare_all(control),
        }
    }

    fn compare_all(&self, control: &dyn Collective) -> Result<()> {
        let mine = self.record();
        let mut all = vec![0u8; RECORD * control.group().size()];
        control.all_gather(&mine, &mut all)?;
        let other = all.chunks(RECORD).position(|record| record != mine);
        other.map_or(Ok(()), |other| {
            Err(self.mismatch(control.group(), other, &all[other * RECORD..][..RECORD]))
        })
    }

    /// The sender does not wait for an answer; who receives tells it by ending the group.
    fn compare_message(&self, control: &dyn Collective, src: usize, tag: i64) -> Result<()> {
        let mut theirs = [0u8; RECORD];
        control.receive(&mut theirs, src, tag)?;
        let same = message(&text(&theirs)) == message(&self.text());
        same.then_some(()).ok_or_else(|| self.mismatch(control.group(), src, &theirs))
    }

    fn mismatch(&self, group: &Group, other: usize, theirs: &[u8]) -> Error {
        Error::mismatch([(group.world_rank(), self.text()), (group.ranks[other], text(theirs))])
    }

    fn text(&self) -> String {
        match self.kind {
            CollectiveKind::Barrier => format!("barrier (number {})", self.number),
            CollectiveKind::Send { .. } | CollectiveKind::Receive { .. } => {
                format!("{} of {} (message {})", self.kind, self.what, self.number)
            }
            kind => format!("{kind} of {} (number {})", self.what, self.number),
        }
    }

    fn record(&self) -> [u8; RECORD] {
        let (mut record, text) = ([0; RECORD], self.text());
        let len = text.len().min(RECORD);
        record[..len].copy_from_slice(&text.as_bytes()[..len]);
        record
    }
}

fn text(record: &[u8]) -> String {
    String::from_utf8_lossy(record).trim_end_matches('\0').to_owned()
}

/// What both ends of a message say alike.
fn message(text: &str) -> Option<&str> {
    text.split_once(" of ").map(|(_, what)| what)
}
