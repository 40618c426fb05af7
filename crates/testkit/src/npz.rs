//! Arrays of numpy's npz archives as tensors.

use std::io;
use std::path::Path;

use mslite_tensor::{Complex, Element, Tensor, bf16, f16};
use npyz::{DType as NpyType, Order, TypeChar};

/// Reads every array of an archive, in the order of the archive.
///
/// bfloat16, which numpy lacks, is written as a void type of 2 bytes (`|V2`), and read as such.
///
/// # Errors
/// When the file cannot be read, with its path; when an array is of a type that tensors do not have.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut archive = npyz::npz::NpzArchive::open(path).map_err(at)?;
    let names: Vec<String> = archive.array_names().map(str::to_owned).collect();
    let mut arrays = Vec::new();
    for name in names {
        if let Some(array) = archive.by_name(&name).map_err(at)? {
            let tensor = tensor(array)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {name}: {error}", path.display())))?;
            arrays.push((name, tensor));
        }
    }
    Ok(arrays)
}

/// The arrays `PREFIX0`, `PREFIX1`, ... of an archive, in the order of their numbers.
///
/// # Errors
/// As [`read`].
pub fn read_numbered(path: impl AsRef<Path>, prefix: &str) -> io::Result<Vec<Tensor>> {
    let mut numbered: Vec<(usize, Tensor)> = read(path)?
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.parse().ok()?, tensor)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, tensor)| tensor).collect())
}

fn tensor<R: io::Read>(array: npyz::NpyFile<R>) -> io::Result<Tensor> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if array.order() != Order::C {
        return Err(invalid("the array is not in row-major order".to_owned()));
    }
    let NpyType::Plain(kind) = array.dtype() else {
        return Err(invalid("records are not tensors".to_owned()));
    };
    let dims: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
    match (kind.type_char(), kind.size_field()) {
        (TypeChar::Bool, 1) => elements::<bool, _>(array, &dims),
        (TypeChar::Int, 1) => elements::<i8, _>(array, &dims),
        (TypeChar::Int, 2) => elements::<i16, _>(array, &dims),
        (TypeChar::Int, 4) => elements::<i32, _>(array, &dims),
        (TypeChar::Int, 8) => elements::<i64, _>(array, &dims),
        (TypeChar::Uint, 1) => elements::<u8, _>(array, &dims),
        (TypeChar::Uint, 2) => elements::<u16, _>(array, &dims),
        (TypeChar::Uint, 4) => elements::<u32, _>(array, &dims),
        (TypeChar::Uint, 8) => elements::<u64, _>(array, &dims),
        (TypeChar::Float, 2) => elements::<f16, _>(array, &dims),
        (TypeChar::Float, 4) => elements::<f32, _>(array, &dims),
        (TypeChar::Float, 8) => elements::<f64, _>(array, &dims),
        (TypeChar::Complex, 8) => elements::<Complex<f32>, _>(array, &dims),
        (TypeChar::Complex, 16) => elements::<Complex<f64>, _>(array, &dims),
        (TypeChar::RawData, 2) => {
            let raw: Vec<npyz::FixedSizeBytes<2>> = array.into_vec()?;
            let values = raw.into_iter().map(|b| bf16::from_le_bytes(b.0)).collect();
            Tensor::from_vec::<bf16>(values, &dims).map_err(|e| invalid(e.to_string()))
        }
        _ => Err(invalid(format!("tensors have no type {kind}"))),
    }
}

fn elements<T: Element + npyz::Deserialize, R: io::Read>(
    array: npyz::NpyFile<R>,
    dims: &[usize],
) -> io::Result<Tensor> {
    let values: Vec<T> = array.into_vec()?;
    Tensor::from_vec(values, dims).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
}

#[cfg(test)]
mod tests {
    use npyz::WriterBuilder;

    use super::*;

    fn write<T: npyz::AutoSerialize + npyz::Serialize + Copy>(path: &Path, arrays: &[(&str, &[T])]) {
        let mut archive = npyz::npz::NpzWriter::create(path).unwrap();
        for (name, values) in arrays {
            let builder = archive.array(name, Default::default()).unwrap();
            let mut writer = builder.default_dtype().shape(&[values.len() as u64]).begin_nd().unwrap();
            writer.extend(values.iter().copied()).unwrap();
            writer.finish().unwrap();
        }
    }

    #[test]
    fn arrays_are_read_with_their_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &[("x", &[f16::from_f32(1.5), f16::NEG_INFINITY])]);
        let arrays = read(&path).unwrap();
        assert_eq!(arrays[0].0, "x");
        assert_eq!(arrays[0].1.to_vec::<f16>().unwrap(), [f16::from_f32(1.5), f16::NEG_INFINITY]);
        write(&path, &[("x", &[true, false])]);
        assert_eq!(read(&path).unwrap()[0].1.to_vec::<bool>().unwrap(), [true, false]);
    }

    #[test]
    fn numbered_arrays_are_sorted_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &[("out_10", &[10u64]), ("out_2", &[2]), ("in_0", &[0])]);
        let outputs = read_numbered(&path, "out_").unwrap();
        let values: Vec<u64> = outputs.iter().map(|t| t.as_slice::<u64>().unwrap()[0]).collect();
        assert_eq!(values, [2, 10]);
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(read("no/such.npz").unwrap_err().to_string().contains("no/such.npz"));
    }
}
