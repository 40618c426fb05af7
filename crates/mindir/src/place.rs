//! Where the decoder is in a file: the bytes of a message, and the fields that lead to it.

use std::cell::Cell;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use crate::{Error, Location, Result, text};

/// Messages nest no deeper; MindSpore's own limit is about the same.
const MAX_DEPTH: usize = 100;

/// A file that is decoded.
pub(crate) struct Source<'a> {
    file: &'a Path,
    bytes: &'a Bytes,
    /// Messages that were dropped in part.
    clipped: Cell<usize>,
}

impl<'a> Source<'a> {
    /// The (decrypted) bytes of a file.
    pub(crate) fn new(file: &'a Path, bytes: &'a Bytes) -> Self {
        Source { file, bytes, clipped: Cell::new(0) }
    }

    /// Number of messages that were dropped in part: see [`Place::clip`].
    pub(crate) fn clipped(&self) -> usize {
        self.clipped.get()
    }
}

/// A set of field numbers below 64.
#[derive(Clone, Copy)]
pub(crate) struct Fields(u64);

impl Fields {
    pub(crate) const fn of(numbers: &[u32]) -> Self {
        let mut set = 0;
        let mut i = 0;
        while i < numbers.len() {
            set |= 1 << numbers[i];
            i += 1;
        }
        Fields(set)
    }

    fn contains(self, number: u32) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }
}

/// An encoded message and its place in a file.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    source: &'a Source<'a>,
    bytes: &'a Bytes,
    parent: Option<&'a Place<'a>>,
    name: &'static str,
    index: Option<usize>,
    depth: usize,
}

impl<'a> Place<'a> {
    /// The outermost message.
    pub(crate) fn root(source: &'a Source<'a>) -> Self {
        Place { source, bytes: source.bytes, parent: None, name: "", index: None, depth: 0 }
    }

    /// A field of this message.
    pub(crate) fn field(&'a self, name: &'static str, bytes: &'a Bytes) -> Self {
        Place { bytes, parent: Some(self), name, index: None, depth: self.depth + 1, ..*self }
    }

    /// An entry of a repeated field of this message.
    pub(crate) fn entry(&'a self, name: &'static str, index: usize, bytes: &'a Bytes) -> Self {
        Place { index: Some(index), ..self.field(name, bytes) }
    }

    pub(crate) fn bytes(&self) -> &'a Bytes {
        self.bytes
    }

    /// Decodes this message, not its children.
    pub(crate) fn decode<M: Message + Default>(&self) -> Result<M> {
        if self.depth > MAX_DEPTH {
            return Err(self.invalid(format!("messages nest deeper than {MAX_DEPTH} levels")));
        }
        let mut rest = self.bytes.clone();
        let mut message = M::default();
        match message.merge(&mut rest) {
            Ok(()) => Ok(message),
            Err(error) => {
                let mut at = self.location();
                at.offset = at.offset.map(|offset| offset + (self.bytes.len() - rest.len()) as u64);
                Err(Error::Invalid {
                    file: self.source.file.to_owned(),
                    at,
                    reason: protobuf_reason(&error, self.depth),
                })
            }
        }
    }

    /// Notes in the [`Source`] whether a part of this message is dropped.
    pub(crate) fn clip(&self, is_clipped: bool) {
        self.source.clipped.set(self.source.clipped.get() + usize::from(is_clipped));
    }

    /// As [`Place::clip`], for fields of this message that are not `known`.
    pub(crate) fn clip_to(&self, known: Fields) {
        self.clip(!self.extra(known).is_empty());
    }

    /// The encoded fields of this message but the `known` ones. The message must have been decoded.
    pub(crate) fn extra(&self, known: Fields) -> Bytes {
        let mut rest = self.bytes.clone();
        let mut extra = Vec::new();
        while rest.has_remaining() {
            let start = self.bytes.len() - rest.len();
            let Ok((number, wire)) = decode_key(&mut rest) else { break };
            if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
                break;
            }
            if !known.contains(number) {
                extra.extend_from_slice(&self.bytes[start..self.bytes.len() - rest.len()]);
            }
        }
        extra.into()
    }

    /// The text of a field of this message, whatever its encoding; empty when absent.
    pub(crate) fn text(&self, field: &Option<Bytes>) -> Arc<str> {
        field.as_deref().map_or_else(|| "".into(), |bytes| text::decode(bytes).into())
    }

    /// These bytes as text, whatever their encoding.
    pub(crate) fn as_text(&self) -> Arc<str> {
        text::decode(self.bytes).into()
    }

    /// These bytes as UTF-8.
    pub(crate) fn as_utf8(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes).map_err(|error| {
            let mut at = self.location();
            at.offset = at.offset.map(|offset| offset + error.valid_up_to() as u64);
            let reason = "the text is not UTF-8".into();
            Error::Invalid { file: self.source.file.to_owned(), at, reason }
        })
    }

    /// An error about this message.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::Invalid { file: self.source.file.to_owned(), at: self.location(), reason: reason.into() }
    }

    /// An error about something in this message that is not supported.
    pub(crate) fn unsupported(&self, feature: impl Into<String>) -> Error {
        Error::Unsupported { file: self.source.file.to_owned(), at: self.location(), feature: feature.into() }
    }

    /// An error about weights elsewhere that this message refers to.
    pub(crate) fn external(&self, location: &str, reason: impl Into<String>) -> Error {
        Error::External {
            file: self.source.file.to_owned(),
            at: self.location(),
            location: location.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn location(&self) -> Location {
        let whole = self.source.bytes;
        let start = (self.bytes.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
        let offset = start.filter(|&start| start <= whole.len()).map(|start| start as u64);
        let mut field = String::new();
        self.write_path(&mut field);
        Location { offset, field }
    }

    fn write_path(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(path);
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(self.name);
        if let Some(index) = self.index {
            let _ = write!(path, "[{index}]");
        }
    }
}

fn protobuf_reason(error: &prost::DecodeError, depth: usize) -> String {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    match depth {
        0 => format!("the file is truncated, or of another format ({reason})"),
        _ => format!("the message is damaged ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GraphProto, ModelProto};

    #[test]
    fn errors_name_offset_and_field_path() {
        // A model whose graph has a node of five bytes announced as nine.
        let bytes = Bytes::from_static(&[0x0a, 0x01, b'1', 0x3a, 0x05, 0x12, 0x01, b'g', 0x0a, 0x09]);
        let source = Source::new(Path::new("m.mindir"), &bytes);
        let root = Place::root(&source);
        let model: ModelProto = root.decode().unwrap();
        let graph_bytes = model.graph.unwrap();
        let graph = root.field("graph", &graph_bytes);
        let error = graph.decode::<GraphProto>().unwrap_err().to_string();
        assert!(error.starts_with("m.mindir: byte 10, graph: the message is damaged"), "{error}");
        let node = graph.entry("node", 3, &graph_bytes);
        assert_eq!(node.location(), Location { offset: Some(5), field: "graph.node[3]".into() });
    }

    #[test]
    fn extra_fields_are_kept_as_they_are() {
        let bytes = Bytes::from_static(&[0x0a, 0x01, b'1', 0xc2, 0x3e, 0x01, 0x07, 0x68, 0x03, 0x12, 0x00]);
        let source = Source::new(Path::new("m.mindir"), &bytes);
        let extra = Place::root(&source).extra(Fields::of(&[1, 13]));
        assert_eq!(extra, Bytes::from_static(&[0xc2, 0x3e, 0x01, 0x07, 0x12, 0x00]));
    }
}
