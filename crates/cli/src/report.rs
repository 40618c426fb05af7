//! What ranks print.

use std::fmt::Write;
use std::time::Duration;

use mslite::{DType, Tensor, bf16, f16};
use mslite_tensor::{Complex, Tensor as Data};
use serde_json::{Value, json};

/// How many values of an output are printed.
const VALUES: usize = 10;

/// The outputs of one call, as MindSpore Lite's tutorials print them.
pub(crate) fn outputs_as_text(outputs: &[Tensor]) -> String {
    let mut text = String::new();
    for output in outputs {
        let (name, size, elements) = (output.name(), output.data_size(), output.element_num());
        let values = output.data().map(|data| values(data, VALUES)).unwrap_or_default();
        let _ = writeln!(
            text,
            "tensor's name is:{name} data size is:{size} tensor elements num is:{elements}\noutput data is: {}",
            values.join(" ")
        );
    }
    text
}

/// The outputs of one call for programs.
pub(crate) fn outputs_as_json(outputs: &[Tensor]) -> Value {
    let describe = |output: &Tensor| {
        let values = output.data().map(|data| json_values(data, VALUES)).unwrap_or_default();
        json!({
            "name": output.name(),
            "dtype": output.dtype().name(),
            "shape": output.shape(),
            "data_size": output.data_size(),
            "element_num": output.element_num(),
            "values": values,
        })
    };
    outputs.iter().map(describe).collect()
}

/// How long repeated calls took.
pub(crate) struct Timing {
    sorted: Vec<Duration>,
}

impl Timing {
    pub(crate) fn new(mut calls: Vec<Duration>) -> Self {
        calls.sort_unstable();
        Timing { sorted: calls }
    }

    fn milliseconds(&self) -> Option<[f64; 3]> {
        let ms = |d: &Duration| d.as_secs_f64() * 1e3;
        let middle = self.sorted.get(self.sorted.len() / 2)?;
        Some([ms(self.sorted.first()?), ms(middle), ms(self.sorted.last()?)])
    }

    pub(crate) fn as_text(&self) -> String {
        let Some([min, median, max]) = self.milliseconds() else { return String::new() };
        format!("{} calls: median {median:.3} ms, min {min:.3}, max {max:.3}\n", self.sorted.len())
    }

    pub(crate) fn as_json(&self) -> Value {
        let Some([min, median, max]) = self.milliseconds() else { return Value::Null };
        json!({ "calls": self.sorted.len(), "median_ms": median, "min_ms": min, "max_ms": max })
    }
}

macro_rules! first_values {
    ($data:expr, $count:expr, $dtype:expr, $map:expr, [$($variant:ident $ty:ty),*]) => {
        match $dtype {
            $(DType::$variant => first::<$ty>($data, $count).into_iter().map($map).collect(),)*
            _ => Vec::new(),
        }
    };
}

macro_rules! for_types {
    ($data:expr, $count:expr, $map:expr) => {
        first_values!($data, $count, $data.dtype(), $map, [
            Bool bool, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, F16 f16, BF16 bf16,
            F32 f32, F64 f64, C64 Complex<f32>, C128 Complex<f64>
        ])
    };
}

fn values(data: &Data, count: usize) -> Vec<String> {
    for_types!(data, count, |value| value.to_string())
}

/// The first values as JSON.
pub(crate) fn json_values(data: &Data, count: usize) -> Vec<Value> {
    for_types!(data, count, |value| {
        let text = value.to_string();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    })
}

fn first<T: mslite_tensor::Element>(data: &Data, count: usize) -> Vec<T> {
    data.as_slice::<T>().map(|values| values[..values.len().min(count)].to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_read_as_in_the_tutorial() {
        let data = Data::from_vec((0..12).map(|i| i as f32 / 2.0).collect(), &[3, 4]).unwrap();
        let outputs = [Tensor::new("y", data)];
        let text = "tensor's name is:y data size is:48 tensor elements num is:12\n\
                    output data is: 0 0.5 1 1.5 2 2.5 3 3.5 4 4.5\n";
        assert_eq!(outputs_as_text(&outputs), text);
        let json = outputs_as_json(&outputs);
        assert_eq!(json[0]["shape"], json!([3, 4]));
        assert_eq!(json[0]["values"][1], json!(0.5));
    }

    #[test]
    fn values_that_json_lacks_become_text() {
        let data = Data::from_vec(vec![f32::NAN, 1.0], &[2]).unwrap();
        assert_eq!(json_values(&data, 10), [json!("NaN"), json!(1)]);
    }
}
