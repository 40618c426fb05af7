//! Arrays of numpy's npz archives as tensors, and back.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Write};
use std::path::Path;

use npyz::npz::{array_name_from_file_name, file_name_from_array_name};
use npyz::{AutoSerialize, DType as NpyType, NpyFile, Order, TypeChar, WriteOptions, WriterBuilder};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::{Complex, DType, Element, Tensor, bf16, contiguous_strides, f16};

/// Reads every array of an archive, in the order of the archive.
///
/// bfloat16, which numpy lacks, is written as a void type of 2 bytes (`|V2`), and read as such.
///
/// # Errors
/// When the file cannot be read, with its path; when an array is of a type that tensors do not have.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut archive =
        ZipArchive::new(BufReader::new(File::open(path).map_err(at)?)).map_err(|e| at(e.into()))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        arrays.extend(read_entry(&mut archive, i).map_err(at)?);
    }
    Ok(arrays)
}

fn read_entry(archive: &mut ZipArchive<BufReader<File>>, i: usize) -> io::Result<Option<(String, Tensor)>> {
    let entry = archive.by_index(i)?;
    let Some(name) = array_name_from_file_name(&entry.name()?).map(str::to_owned) else { return Ok(None) };
    let tensor = NpyFile::new(BufReader::new(entry)).and_then(tensor);
    let tensor = tensor.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    Ok(Some((name, tensor)))
}

/// The arrays `PREFIX0`, `PREFIX1`, ... of an archive, in the order of their numbers.
///
/// # Errors
/// As [`read`]; also when a number is missing or given twice.
pub fn read_numbered(path: impl AsRef<Path>, prefix: &str) -> io::Result<Vec<Tensor>> {
    let path = path.as_ref();
    let mut numbered: Vec<(usize, Tensor)> = read(path)?
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.parse().ok()?, tensor)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    if let Some((expected, (found, _))) = numbered.iter().enumerate().find(|(i, (number, _))| i != number) {
        let reason = match found < &expected {
            true => format!("{prefix}{found} is there twice"),
            false => format!("{prefix}{expected} is missing"),
        };
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display())));
    }
    Ok(numbered.into_iter().map(|(_, tensor)| tensor).collect())
}

fn tensor<R: io::Read>(array: NpyFile<R>) -> io::Result<Tensor> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
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
    array: NpyFile<R>,
    dims: &[usize],
) -> io::Result<Tensor> {
    let columns_first = array.order() == Order::Fortran;
    let mut values: Vec<T> = array.into_vec()?;
    if columns_first {
        values = row_major(&values, dims);
    }
    Tensor::from_vec(values, dims).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
}

/// The elements of a column-major array in row-major order.
fn row_major<T: Copy>(values: &[T], dims: &[usize]) -> Vec<T> {
    let strides = contiguous_strides(dims);
    let source = |i: usize| {
        let axes = strides.iter().zip(dims).map(|(stride, dim)| i / stride % dim);
        let mut step = 1;
        let at = axes.zip(dims).map(|(index, dim)| {
            let offset = index * step;
            step *= dim;
            offset
        });
        at.sum::<usize>()
    };
    (0..values.len()).map(|i| values[source(i)]).collect()
}

/// Writes named tensors as an archive. The archive appears under its name when it is complete, unless there is
/// something else than a file under that name, which is then written to.
///
/// bfloat16, which numpy lacks, is written as float32.
///
/// # Errors
/// When the file cannot be written, with its path.
pub fn write<'a>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (String, &'a Tensor)>,
) -> io::Result<()> {
    let path = path.as_ref();
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return write_all(path, arrays).map_err(at);
    }
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let written = write_all(&partial, arrays).and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written.map_err(at)
}

fn write_all<'a>(path: &Path, arrays: impl IntoIterator<Item = (String, &'a Tensor)>) -> io::Result<()> {
    // In memory, since a writer whose file fails prints to stderr when it is dropped, and a pipe cannot seek.
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in arrays {
        append(&mut archive, &name, tensor)?;
    }
    let bytes = archive.finish()?.into_inner();
    File::create(path)?.write_all(&bytes)
}

type Archive = ZipWriter<Cursor<Vec<u8>>>;

fn append(archive: &mut Archive, name: &str, tensor: &Tensor) -> io::Result<()> {
    macro_rules! by_dtype {
        ($($dtype:ident $ty:ty),*) => {
            match tensor.dtype() {
                $(DType::$dtype => append_as::<$ty>(archive, name, tensor.dims(), tensor.to_vec::<$ty>()),)*
                DType::BF16 => {
                    let values = tensor.to_vec::<bf16>().map(|v| v.into_iter().map(bf16::to_f32).collect());
                    append_as::<f32>(archive, name, tensor.dims(), values)
                }
            }
        };
    }
    by_dtype!(
        Bool bool, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, F16 f16, F32 f32, F64 f64,
        C64 Complex<f32>, C128 Complex<f64>
    )
}

fn append_as<T: AutoSerialize>(
    archive: &mut Archive,
    name: &str,
    dims: &[usize],
    values: crate::Result<Vec<T>>,
) -> io::Result<()> {
    let values = values.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    let dims: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    archive.start_file(file_name_from_array_name(name), stored)?;
    let mut writer = WriteOptions::new().default_dtype().shape(&dims).writer(archive).begin_nd()?;
    writer.extend(values)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(tensor: &Tensor) -> Tensor {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, [("x".to_owned(), tensor)]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let [(name, read)] = <[_; 1]>::try_from(read(&path).unwrap()).unwrap();
        assert_eq!(name, "x");
        read
    }

    #[test]
    fn every_type_round_trips_but_bf16_widens() {
        for dtype in DType::ALL {
            for dims in [&[2usize, 3][..], &[], &[0, 4]] {
                let mut tensor = Tensor::zeros(dtype, dims).unwrap();
                if let Some(byte) = tensor.bytes_mut().unwrap().first_mut() {
                    *byte = 1;
                }
                let read = round_trip(&tensor);
                match dtype {
                    DType::BF16 => assert_eq!((read.dtype(), read.dims()), (DType::F32, dims)),
                    _ => assert_eq!(read, tensor),
                }
            }
        }
    }

    #[test]
    fn column_major_arrays_become_row_major() {
        assert_eq!(row_major(&[1, 4, 2, 5, 3, 6], &[2, 3]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(row_major(&[0, 4, 2, 6, 1, 5, 3, 7], &[2, 2, 2]), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn numbered_arrays_are_sorted_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let written = |names: &[&str]| {
            let one =
                |name: &str| (name.to_owned(), Tensor::from_vec(vec![name.len() as u64], &[1]).unwrap());
            let tensors: Vec<_> = names.iter().map(|name| one(name)).collect();
            write(&path, tensors.iter().map(|(name, tensor)| (name.clone(), tensor))).unwrap();
            read_numbered(&path, "out_")
        };
        let names: Vec<String> = (0..11).rev().map(|i| format!("out_{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["in_0", "out_", "out_x"]).collect();
        let values: Vec<u64> =
            written(&names).unwrap().iter().map(|t| t.as_slice::<u64>().unwrap()[0]).collect();
        assert_eq!(values, [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6]);
        let reason = |names| written(names).unwrap_err().to_string();
        assert!(reason(&["out_0", "out_2"]).ends_with("out_1 is missing"));
        assert!(reason(&["out_0", "out_00"]).ends_with("out_0 is there twice"));
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(read("no/such.npz").unwrap_err().to_string().contains("no/such.npz"));
    }
}
