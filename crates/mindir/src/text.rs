//! Names that are not UTF-8. The format does not promise it, but symbols here are text: each byte that does not
//! fit becomes one character at the end of the last private-use plane, and is written back as that byte.

use std::borrow::Cow;

use bytes::Bytes;

/// Byte `b` stands as character `ESCAPE + b`; only bytes from 0x80 up can be out of place.
const ESCAPE: u32 = 0x10_ff00;

/// The text of these bytes; every byte string has its own.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_escape) => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes)),
    }
}

/// The bytes that [`decode`] took; `None` for no text.
pub(crate) fn field(text: &str) -> Option<Bytes> {
    (!text.is_empty()).then(|| bytes(text))
}

/// The bytes that [`decode`] took.
pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(&encode(text))
}

fn encode(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(is_escape) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(ESCAPE)) {
            Ok(byte) if is_escape(c) => bytes.push(byte),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

fn is_escape(c: char) -> bool {
    u32::from(c) >= ESCAPE + 0x80
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let escape = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().filter_map(|&byte| char::from_u32(ESCAPE + u32::from(byte))));
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Such a character in the file would be taken for an escape when it is written back.
            if is_escape(c) {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stays_as_it_is() {
        assert!(matches!(decode("✓loop".as_bytes()), Cow::Borrowed("✓loop")));
        assert_eq!(&*encode("✓loop"), "✓loop".as_bytes());
    }

    proptest! {
        #[test]
        fn every_byte_string_comes_back(bytes: Vec<u8>) {
            prop_assert_eq!(super::bytes(&decode(&bytes)), bytes);
        }

        #[test]
        fn so_do_characters_that_look_escaped(text in "[a\u{10ff80}-\u{10ffff}]{0,8}") {
            let back = bytes(&decode(text.as_bytes()));
            prop_assert_eq!(back, text.as_bytes());
        }
    }
}
