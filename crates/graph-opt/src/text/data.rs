//! The bytes of tensors.

use std::fmt;

use mslite_tensor::{Bytes, Complex, DType, Element, Tensor, TensorSpec, bf16, f16};

use super::scan::{Scanned, shown, split};

/// Up to so many elements are written as numbers.
const LIST_LIMIT: usize = 16;

/// The data of a tensor as text.
#[derive(Debug)]
pub(super) struct Data<'a> {
    pub(super) tensor: &'a Tensor,
    /// Whether data too long for a list is left out.
    pub(super) brief: bool,
}

/// Calls a function for the Rust type of the elements.
macro_rules! dispatch {
    ($dtype:expr, $function:ident($argument:expr), else $other:expr) => {
        match $dtype {
            DType::Bool => $function::<bool>($argument),
            DType::I8 => $function::<i8>($argument),
            DType::I16 => $function::<i16>($argument),
            DType::I32 => $function::<i32>($argument),
            DType::I64 => $function::<i64>($argument),
            DType::U8 => $function::<u8>($argument),
            DType::U16 => $function::<u16>($argument),
            DType::U32 => $function::<u32>($argument),
            DType::U64 => $function::<u64>($argument),
            DType::F16 => $function::<f16>($argument),
            DType::BF16 => $function::<bf16>($argument),
            DType::F32 => $function::<f32>($argument),
            DType::F64 => $function::<f64>($argument),
            DType::C64 => $function::<Complex<f32>>($argument),
            DType::C128 => $function::<Complex<f64>>($argument),
            _ => $other,
        }
    };
}

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.tensor.num_elements();
        let list = (count <= LIST_LIMIT)
            .then(|| dispatch!(self.tensor.dtype(), list(self.tensor), else None))
            .flatten();
        if let Some(list) = list {
            return write!(f, "[{list}]");
        }
        if self.brief {
            return write!(f, "<{count} elements>");
        }
        f.write_str("hex:")?;
        self.tensor.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A tensor of a type from the text of its data.
pub(super) fn parse(spec: &TensorSpec, text: &str) -> Scanned<Tensor> {
    let dims =
        spec.shape.as_fixed().ok_or_else(|| format!("{spec} has no fixed shape, so it has no data"))?;
    if text.starts_with('<') {
        return Err("the data was left out of this text (a summary); write the graph in full".to_owned());
    }
    let bytes = match (text.strip_prefix("hex:"), text.strip_prefix('[').and_then(|t| t.strip_suffix(']'))) {
        (Some(digits), _) => unhex(digits)?,
        (_, Some(list)) => {
            dispatch!(spec.dtype, unlist(list), else Err(format!("{} must be in bytes", spec.dtype)))?
        }
        _ => return Err(format!("expected `[numbers]` or `hex:bytes`, not {}", shown(text))),
    };
    let tensor = Tensor::from_bytes(spec.dtype, &dims, bytes).map_err(|error| error.to_string())?;
    Ok(tensor)
}

/// The elements, if their bytes are valid.
fn list<T: Element + Number>(tensor: &Tensor) -> Option<String> {
    let values = tensor.to_vec::<T>().ok()?;
    Some(values.iter().map(Number::print).collect::<Vec<_>>().join(", "))
}

fn unlist<T: Element + Number>(text: &str) -> Scanned<Bytes> {
    let number = |part: &str| T::parse(part).ok_or_else(|| format!("{} is not {}", shown(part), T::DTYPE));
    let values = split(text)?.into_iter().map(number).collect::<Scanned<Vec<T>>>()?;
    let count = values.len();
    let tensor = Tensor::from_vec(values, &[count]).map_err(|error| error.to_string())?;
    Ok(tensor.into_bytes())
}

fn unhex(digits: &str) -> Scanned<Bytes> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    bytes.map(Bytes::from).ok_or_else(|| "expected pairs of hexadecimal digits".to_owned())
}

/// Text that gives back the very bits.
pub(super) trait Number: Sized {
    fn print(&self) -> String;
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! plain_numbers {
    ($($ty:ty),*) => {
        $(impl Number for $ty {
            fn print(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })*
    };
}

plain_numbers!(bool, i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($ty:ty, $bits:ty, $usual_nan:expr, $print:expr;)*) => {
        $(impl Number for $ty {
            fn print(&self) -> String {
                match self.to_bits() {
                    bits if bits == $usual_nan.to_bits() => "nan".to_owned(),
                    bits if self.is_nan() => format!("nan:{bits:x}"),
                    _ => $print(*self),
                }
            }

            fn parse(text: &str) -> Option<Self> {
                match text.strip_prefix("nan:") {
                    Some(bits) => <$bits>::from_str_radix(bits, 16).ok().map(<$ty>::from_bits),
                    None if text == "nan" => Some($usual_nan),
                    None => text.parse().ok(),
                }
            }
        })*
    };
}

// The decimal of an f32 gives back an f16 or bf16, since it is that f32 exactly.
floats! {
    f16, u16, f16::NAN, |x: f16| format!("{:?}", x.to_f32());
    bf16, u16, bf16::NAN, |x: bf16| format!("{:?}", x.to_f32());
    f32, u32, f32::NAN, |x| format!("{x:?}");
    f64, u64, f64::NAN, |x| format!("{x:?}");
}

impl<T: Number> Number for Complex<T> {
    fn print(&self) -> String {
        format!("({}, {})", self.re.print(), self.im.print())
    }

    fn parse(text: &str) -> Option<Self> {
        let (re, im) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
        Some(Complex { re: T::parse(re.trim())?, im: T::parse(im.trim())? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(tensor: &Tensor) -> String {
        Data { tensor, brief: false }.to_string()
    }

    #[test]
    fn special_numbers_have_names() {
        let values = vec![0.1f32, -0.0, f32::NAN, f32::from_bits(0xffc0_0001), f32::INFINITY, -f32::INFINITY];
        let tensor = Tensor::from_vec(values, &[6]).unwrap();
        assert_eq!(text(&tensor), "[0.1, -0.0, nan, nan:ffc00001, inf, -inf]");
        let tensor = Tensor::from_vec(vec![Complex::new(1.5f64, -2.0)], &[]).unwrap();
        assert_eq!(text(&tensor), "[(1.5, -2.0)]");
        let tensor = Tensor::from_bytes(DType::Bool, &[2], Bytes::from_static(&[1, 7])).unwrap();
        assert_eq!(text(&tensor), "hex:0107");
    }

    #[test]
    fn data_must_fit_its_type() {
        let spec = TensorSpec::fixed(DType::I8, &[2]);
        for bad in
            ["[1]", "[1, 2, 3]", "[1, 300]", "[1, x]", "hex:0", "hex:0102030", "hex:0g00", "<2 elements>", ""]
        {
            assert!(parse(&spec, bad).is_err(), "{bad}");
        }
        assert_eq!(parse(&spec, "[1, -2]").unwrap().to_vec::<i8>().unwrap(), [1, -2]);
        assert!(parse(&TensorSpec::fixed(DType::I8, &[usize::MAX >> 2]), "[]").is_err());
    }

    proptest! {
        #[test]
        fn all_bits_round_trip(dtype in prop::sample::select(&DType::ALL[..]), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let count = bytes.len() / dtype.size();
            let bytes = Bytes::from(bytes).slice(..count * dtype.size());
            let tensor = Tensor::from_bytes(dtype, &[count], bytes).unwrap();
            prop_assert_eq!(parse(&tensor.spec(), &text(&tensor)), Ok(tensor));
        }
    }
}
