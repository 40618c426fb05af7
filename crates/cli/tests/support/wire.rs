//! Just enough of protobuf and of the format's messages to make models by hand.

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of text, bytes or a message.
pub(crate) fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A field with a number.
pub(crate) fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

/// A TensorProto of f32.
pub(crate) fn tensor(name: &str, dims: &[u64], data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    bytes.extend(number(2, 1));
    bytes.extend(field(7, name.as_bytes()));
    bytes.extend(data.map(|data| field(9, data)).unwrap_or_default());
    bytes
}

/// A ValueInfoProto of an f32 tensor.
pub(crate) fn value_info(name: &str, dims: &[u64]) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, &tensor("", dims, None))].concat()
}

/// An AttributeProto that holds text.
pub(crate) fn attribute_text(name: &str, text: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), field(5, text.as_bytes()), number(16, 8)].concat()
}
