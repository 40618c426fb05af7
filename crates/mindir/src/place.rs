//! Where the decoder is in a file: the bytes of a message, and the fields that lead to it.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::{Error, Location, Result};

/// Messages nest no deeper; MindSpore's own limit is about the same.
const MAX_DEPTH: usize = 100;

/// An encoded message and its place in a file.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    file: &'a Path,
    whole: &'a Bytes,
    bytes: &'a Bytes,
    parent: Option<&'a Place<'a>>,
    name: &'static str,
    index: Option<usize>,
    depth: usize,
}

impl<'a> Place<'a> {
    /// The outermost message: all (decrypted) bytes of a file.
    pub(crate) fn root(file: &'a Path, whole: &'a Bytes) -> Self {
        Place { file, whole, bytes: whole, parent: None, name: "", index: None, depth: 0 }
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
                Err(Error::Invalid { file: self.file.to_owned(), at, reason: protobuf_reason(&error) })
            }
        }
    }

    /// The text of a field of this message; empty when absent.
    pub(crate) fn text(&self, name: &'static str, field: &Option<Bytes>) -> Result<Arc<str>> {
        match field {
            None => Ok("".into()),
            Some(bytes) => self.field(name, bytes).as_text().map(Arc::from),
        }
    }

    /// These bytes as text.
    pub(crate) fn as_text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes).map_err(|error| {
            let mut at = self.location();
            at.offset = at.offset.map(|offset| offset + error.valid_up_to() as u64);
            Error::Invalid { file: self.file.to_owned(), at, reason: "the text is not UTF-8".into() }
        })
    }

    /// An error about this message.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::Invalid { file: self.file.to_owned(), at: self.location(), reason: reason.into() }
    }

    /// An error about something in this message that is not supported.
    pub(crate) fn unsupported(&self, feature: impl Into<String>) -> Error {
        Error::Unsupported { file: self.file.to_owned(), at: self.location(), feature: feature.into() }
    }

    /// An error about weights elsewhere that this message refers to.
    pub(crate) fn external(&self, location: &str, reason: impl Into<String>) -> Error {
        Error::External {
            file: self.file.to_owned(),
            at: self.location(),
            location: location.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn location(&self) -> Location {
        let start = (self.bytes.as_ptr() as usize).checked_sub(self.whole.as_ptr() as usize);
        let offset = start.filter(|&start| start <= self.whole.len()).map(|start| start as u64);
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

fn protobuf_reason(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    format!("not the protobuf message that belongs here, or truncated: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GraphProto, ModelProto};

    #[test]
    fn errors_name_offset_and_field_path() {
        // A model whose graph has a node of five bytes announced as nine.
        let bytes = Bytes::from_static(&[0x0a, 0x01, b'1', 0x3a, 0x05, 0x12, 0x01, b'g', 0x0a, 0x09]);
        let root = Place::root(Path::new("m.mindir"), &bytes);
        let model: ModelProto = root.decode().unwrap();
        let graph_bytes = model.graph.unwrap();
        let graph = root.field("graph", &graph_bytes);
        let error = graph.decode::<GraphProto>().unwrap_err().to_string();
        assert!(error.starts_with("m.mindir: byte 10, graph: not the protobuf message"), "{error}");
        let node = graph.entry("node", 3, &graph_bytes);
        assert_eq!(node.location(), Location { offset: Some(5), field: "graph.node[3]".into() });
    }
}
