//! The header of an array in numpy's [npy format], versions 1 to 3: a preamble, then a Python dictionary in text.
//!
//! [npy format]: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

use std::io::{self, Read};

use super::invalid;
use crate::{DType, Dims};

/// The greatest length of the text and the greatest rank; numpy itself reads no more.
const MAX_TEXT: usize = 10_000;
const MAX_RANK: usize = 64;

const MAGIC: &[u8] = b"\x93NUMPY";
const NATIVE: char = if cfg!(target_endian = "little") { '<' } else { '>' };

/// What an array's header says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) dtype: DType,
    pub(super) dims: Dims,
    /// Whether the first axis is the innermost one.
    pub(super) column_major: bool,
    /// Whether the bytes of each number are in the order that this machine has.
    pub(super) native: bool,
}

impl Header {
    /// Reads a header; also says how many bytes it took.
    pub(super) fn read(from: &mut impl Read) -> io::Result<(Header, u64)> {
        let mut preamble = [0; 8];
        from.read_exact(&mut preamble)?;
        if !preamble.starts_with(MAGIC) {
            return Err(invalid("it is no array of numpy: its first bytes are not those of the npy format"));
        }
        let width = match preamble[6] {
            1 => 2,
            2 | 3 => 4,
            version => {
                return Err(invalid(format!("it is in version {version} of the npy format, not 1 to 3")));
            }
        };
        let mut length = [0; 4];
        from.read_exact(&mut length[..width])?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_TEXT {
            return Err(invalid(format!("its header of {length} bytes is longer than {MAX_TEXT}")));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        let header = std::str::from_utf8(&text).map_err(invalid).and_then(Header::parse)?;
        Ok((header, (preamble.len() + width + length) as u64))
    }

    fn parse(text: &str) -> io::Result<Header> {
        let mut fields = Fields::default();
        let mut scan = Scan(text);
        if scan.dictionary(&mut fields).is_none() || !scan.0.trim().is_empty() {
            let rest: String = scan.0.trim_start().chars().take(40).collect();
            return Err(invalid(format!("its header cannot be read at {rest:?}")));
        }
        let Fields { descr: Some(descr), column_major: Some(column_major), dims: Some(dims) } = fields else {
            return Err(invalid("its header lacks 'descr', 'fortran_order' or 'shape'"));
        };
        let unknown = || invalid(format!("tensors have no type {descr:?}"));
        let order = descr.chars().next().ok_or_else(unknown)?;
        let named = |dtype: &DType| descr.get(order.len_utf8()..) == Some(type_name(*dtype));
        let dtype = DType::ALL.into_iter().find(named).ok_or_else(unknown)?;
        let native = match order {
            '<' | '>' => order == NATIVE || dtype == DType::BF16,
            '|' if dtype.size() == 1 || dtype == DType::BF16 => true,
            _ => return Err(unknown()),
        };
        Ok(Header { dtype, dims, column_major, native })
    }

    /// The header of an array with bytes in native order, ready to be followed by them.
    pub(super) fn write(dtype: DType, dims: &[usize]) -> io::Result<Vec<u8>> {
        if dims.len() > MAX_RANK {
            return Err(invalid(format!("numpy has no arrays of {} axes", dims.len())));
        }
        let order = if dtype.size() == 1 { '|' } else { NATIVE };
        let name = type_name(dtype);
        let shape: String = dims.iter().map(|dim| format!("{dim}, ")).collect();
        let text = format!("{{'descr': '{order}{name}', 'fortran_order': False, 'shape': ({shape}), }}");
        // The data begins at a multiple of 64 bytes, behind a line end.
        let preamble = MAGIC.len() + 4;
        let length = (preamble + text.len() + 1).next_multiple_of(64) - preamble;
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(u16::try_from(length).map_err(invalid)?.to_le_bytes());
        bytes.extend(format!("{text:<0$}\n", length - 1).bytes());
        Ok(bytes)
    }
}

/// numpy's name of a type, without byte order. numpy has no bfloat16: those who add it use a void type.
fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "b1",
        DType::I8 => "i1",
        DType::I16 => "i2",
        DType::I32 => "i4",
        DType::I64 => "i8",
        DType::U8 => "u1",
        DType::U16 => "u2",
        DType::U32 => "u4",
        DType::U64 => "u8",
        DType::F16 => "f2",
        DType::BF16 => "V2",
        DType::F32 => "f4",
        DType::F64 => "f8",
        DType::C64 => "c8",
        DType::C128 => "c16",
    }
}

#[derive(Default)]
struct Fields {
    descr: Option<String>,
    column_major: Option<bool>,
    dims: Option<Dims>,
}

/// The text that is still to be read. Methods skip spaces first, and answer `None` at what they do not expect.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    fn dictionary(&mut self, fields: &mut Fields) -> Option<()> {
        self.token("{")?;
        while self.token("}").is_none() {
            let key = self.string()?;
            self.token(":")?;
            match key {
                "descr" => fields.descr = Some(self.string()?.to_owned()),
                "fortran_order" => fields.column_major = Some(self.boolean()?),
                "shape" => fields.dims = Some(self.extents()?),
                _ => return None,
            }
            if self.token(",").is_none() {
                return self.token("}");
            }
        }
        Some(())
    }

    fn token(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.token("'").is_some() { '\'' } else { self.token("\"").map(|()| '"')? };
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        self.token("True").map(|()| true).or_else(|| self.token("False").map(|()| false))
    }

    fn extents(&mut self) -> Option<Dims> {
        let mut dims = Dims::new();
        self.token("(")?;
        while self.token(")").is_none() {
            let text = self.0.trim_start();
            let digits = text.find(|c: char| !c.is_ascii_digit())?;
            dims.push(text[..digits].parse().ok().filter(|_| dims.len() < MAX_RANK)?);
            self.0 = &text[digits..];
            if self.token(",").is_none() {
                return self.token(")").map(|()| dims);
            }
        }
        Some(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: u8, text: &str) -> io::Result<Header> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        bytes.extend(if version == 1 { &length[..2] } else { &length[..] });
        bytes.extend(text.bytes());
        let (header, taken) = Header::read(&mut bytes.as_slice())?;
        assert_eq!(taken, bytes.len() as u64);
        Ok(header)
    }

    #[test]
    fn headers_of_numpy_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n";
        let expected = Header {
            dtype: DType::F32,
            dims: Dims::from_slice(&[2, 3]),
            column_major: false,
            native: cfg!(target_endian = "little"),
        };
        for version in 1..=3 {
            assert_eq!(read(version, text).unwrap(), expected);
        }
        let vector = read(1, "{\"shape\":(7,),\"fortran_order\":True,\"descr\":\">c16\"}").unwrap();
        assert_eq!((vector.dtype, vector.dims.as_slice()), (DType::C128, &[7][..]));
        assert!(vector.column_major && vector.native == cfg!(target_endian = "big"));
        let scalar = read(1, "{'descr': '|V2', 'fortran_order': False, 'shape': (), }\n").unwrap();
        assert_eq!((scalar.dtype, scalar.dims.len(), scalar.native), (DType::BF16, 0, true));
    }

    #[test]
    fn written_headers_are_aligned_and_read_back() {
        for dtype in DType::ALL {
            for dims in [&[][..], &[5], &[usize::MAX, 0, 1], &[1; MAX_RANK]] {
                let bytes = Header::write(dtype, dims).unwrap();
                assert!(bytes.len().is_multiple_of(64) && bytes.ends_with(b"\n"));
                let (header, _) = Header::read(&mut bytes.as_slice()).unwrap();
                let expected = Header { dtype, dims: dims.into(), column_major: false, native: true };
                assert_eq!(header, expected);
            }
        }
        assert!(Header::write(DType::F32, &[1; MAX_RANK + 1]).is_err());
    }

    #[test]
    fn other_text_is_refused_with_the_place() {
        let fails = |text: &str, part: &str| {
            let error = read(2, text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:.60}: {error}");
        };
        let with = |descr: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
        };
        fails(&with("'|O'", "()"), "no type \"|O\"");
        fails(&with("'=f4'", "()"), "no type \"=f4\"");
        fails(&with("'|f4'", "()"), "no type \"|f4\"");
        fails(&with("'é'", "()"), "no type");
        fails(&with("''", "()"), "no type");
        fails(&with("[('x', '<f4')]", "()"), "at \"[('x'");
        fails(&with("'<f4'", "(-1,)"), "at \"-1,)");
        fails(&with("'<f4'", "(99999999999999999999,)"), "at \"9999");
        fails(&with("'<f4'", &format!("({})", "1,".repeat(MAX_RANK + 1))), "at \"1,)");
        fails(&with("'<f4'", &"(".repeat(9000)), "cannot be read at");
        fails(&with("'<f4'", &"1".repeat(MAX_TEXT)), "longer than");
        fails("{'shape': ()}", "lacks");
        fails("{} {}", "at \"{}\"");
        fails("", "cannot be read at \"\"");
        assert!(read(4, "{}").unwrap_err().to_string().contains("version 4"));
    }
}
