//! Arrays of numpy's npz archives as tensors, and back.

mod header;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;

use bytemuck::Pod;
use zip::read::ZipFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use self::header::Header;
use crate::shape::size_bytes;
use crate::{Complex, DType, Element, Tensor, bf16, contiguous_strides, f16};

/// What any archive may unpack to, in bytes: all its arrays together.
const UNPACKED: u64 = 1 << 30;
/// What a larger archive may unpack to, for each of its bytes.
const UNPACKED_PER_BYTE: u64 = 128;
/// What is allocated before anything is read, at most; from there on as much again as there is already.
const FIRST_BYTES: usize = 1 << 20;

/// Reads every array of an archive, in the order of the archive.
///
/// bfloat16, which numpy lacks, is read from a void type of 2 bytes (`|V2`).
///
/// Compressed arrays may be much larger than the file: all together up to 1 GiB, or 128 times the size of the file
/// if that is more. An array that is shorter than it says takes little more memory than there are bytes of it.
///
/// # Errors
/// When the file cannot be read, with its path; when an array is of a type that tensors do not have, or is not of
/// the size that it says, with its name; when the arrays are larger than the limit.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    read_all(path, UNPACKED)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn read_all(path: &Path, unpacked: u64) -> io::Result<Vec<(String, Tensor)>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let limit = unpacked.max(size.saturating_mul(UNPACKED_PER_BYTE));
    let mut left = limit;
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        let entry = archive.by_index(i)?;
        let Some(name) = entry.name()?.strip_suffix(".npy").map(str::to_owned) else { continue };
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let claimed = entry.size();
        left = left.checked_sub(claimed).ok_or_else(|| {
            at(invalid(format!(
                "of {claimed} bytes unpacked, it is too large: from {size} bytes of the archive at most {limit} are \
                 unpacked; if it is meant to be so large, save it uncompressed (`numpy.savez`)"
            )))
        })?;
        let tensor = read_entry(entry).map_err(at)?;
        arrays.push((name, tensor));
    }
    Ok(arrays)
}

fn read_entry<R: Read>(mut entry: ZipFile<'_, R>) -> io::Result<Tensor> {
    let (header, length) = Header::read(&mut entry)?;
    let Header { dtype, ref dims, .. } = header;
    let expected = size_bytes(dtype, dims).map_err(invalid)? as u64;
    let unpacked = entry.size();
    if length.checked_add(expected) != Some(unpacked) {
        let data = unpacked.saturating_sub(length);
        let reason =
            format!("{dtype}{dims:?} is {expected} bytes, but it has {data}: write the archive anew");
        return Err(invalid(reason));
    }
    let tensor = read_tensor(&header, &mut entry).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            invalid(format!("it ends before the {expected} bytes of {dtype}{dims:?}: write the archive anew"))
        }
        _ => error,
    })?;
    // At its end an entry compares the checksum, and fails if more follows than it says.
    io::copy(&mut entry, &mut io::sink())?;
    Ok(tensor)
}

fn invalid(reason: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
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

fn read_tensor(header: &Header, from: &mut impl Read) -> io::Result<Tensor> {
    macro_rules! by_dtype {
        ($($dtype:ident $ty:ty),*) => {
            match header.dtype {
                $(DType::$dtype => to_tensor::<$ty>(read_elements(header, from)?, header),)*
                DType::Bool => to_tensor(read_bools(header, from)?, header),
            }
        };
    }
    by_dtype!(
        I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, F16 f16, BF16 bf16, F32 f32, F64 f64,
        C64 Complex<f32>, C128 Complex<f64>
    )
}

fn to_tensor<T: Element>(mut values: Vec<T>, header: &Header) -> io::Result<Tensor> {
    if header.column_major && !values.is_empty() {
        values = row_major(&values, &header.dims);
    }
    Tensor::from_vec(values, &header.dims).map_err(invalid)
}

fn read_bools(header: &Header, from: &mut impl Read) -> io::Result<Vec<bool>> {
    let bytes: Vec<u8> = read_elements(header, from)?;
    if bytes.iter().any(|byte| *byte > 1) {
        return Err(invalid("it holds a bool that is neither 0 nor 1"));
    }
    Ok(bytes.into_iter().map(|byte| byte == 1).collect())
}

/// The elements in the order in which they stand. Takes memory in steps, as the elements come.
fn read_elements<T: Pod>(header: &Header, from: &mut impl Read) -> io::Result<Vec<T>> {
    let mut values: Vec<T> = Vec::new();
    let count = size_bytes(header.dtype, &header.dims).map_err(invalid)? / size_of::<T>();
    while values.len() < count {
        let there = values.len();
        let more = there.max(FIRST_BYTES / size_of::<T>()).min(count - there);
        values.reserve_exact(more);
        values.resize(there + more, T::zeroed());
        from.read_exact(bytemuck::cast_slice_mut(&mut values[there..]))?;
    }
    if !header.native {
        let width = if header.dtype.is_complex() { size_of::<T>() / 2 } else { size_of::<T>() };
        bytemuck::cast_slice_mut(&mut values).chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    Ok(values)
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
    if tensor.dtype() == DType::BF16 {
        let values = tensor.to_vec::<bf16>().map_err(invalid)?.into_iter().map(bf16::to_f32).collect();
        return append(archive, name, &Tensor::from_vec::<f32>(values, tensor.dims()).map_err(invalid)?);
    }
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    archive.start_file(format!("{name}.npy"), stored)?;
    archive.write_all(&Header::write(tensor.dtype(), tensor.dims())?)?;
    archive.write_all(tensor.bytes())
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

    /// An archive with one deflated entry `x.npy`: a header, then `data` zeros.
    fn zeros(dtype: DType, dims: &[usize], data: usize) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let deflated = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file("x.npy", deflated).unwrap();
        archive.write_all(&Header::write(dtype, dims).unwrap()).unwrap();
        archive.write_all(&vec![0; data]).unwrap();
        archive.finish().unwrap().into_inner()
    }

    /// Has the archive say that its only entry has another size, in both places of the [zip format] that say so.
    ///
    /// [zip format]: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
    fn claim(archive: &mut [u8], size: u32) {
        let directory = archive.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        for at in [22, directory + 24] {
            archive[at..at + 4].copy_from_slice(&size.to_le_bytes());
        }
    }

    fn read_bytes(archive: &[u8]) -> io::Result<Vec<(String, Tensor)>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(archive).unwrap();
        read(file.path())
    }

    #[track_caller]
    fn refused(archive: &[u8], parts: &[&str]) {
        let error = read_bytes(archive).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn arrays_that_compress_well_are_read() {
        let archive = zeros(DType::F32, &[4, 1 << 20], 16 << 20);
        assert!(archive.len() < (16 << 20) / 900, "{}", archive.len());
        assert_eq!(read_bytes(&archive).unwrap()[0].1, Tensor::zeros(DType::F32, &[4, 1 << 20]).unwrap());
    }

    #[test]
    fn sizes_that_are_not_so_are_refused() {
        let mut archive = zeros(DType::F32, &[1 << 27], 4000);
        refused(&archive, &["x: f32[134217728] is 536870912 bytes, but it has 4000"]);
        claim(&mut archive, 128 + (1 << 29));
        refused(&archive, &["x: it ends before the 536870912 bytes of f32[134217728]"]);
        let mut archive = zeros(DType::F32, &[2], 1 << 24);
        refused(&archive, &["x: f32[2] is 8 bytes, but it has 16777216"]);
        claim(&mut archive, 128 + 8);
        refused(&archive, &["x: ", "larger than its declared"]);
        refused(&zeros(DType::F32, &[usize::MAX, 2], 0), &["x: shape", "too large"]);
    }

    #[test]
    fn archives_that_unpack_to_too_much_are_refused() {
        let mut archive = zeros(DType::F32, &[1 << 29], 4000);
        claim(&mut archive, 128 + (1 << 31));
        refused(&archive, &["x: of 2147483776 bytes", "at most 1073741824", "numpy.savez"]);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.npz");
        let tensor = Tensor::zeros(DType::U8, &[1 << 16]).unwrap();
        write(&path, [("a".to_owned(), &tensor), ("b".to_owned(), &tensor)]).unwrap();
        assert_eq!(read_all(&path, 0).unwrap().len(), 2, "uncompressed arrays need no limit");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&zeros(DType::U8, &[1 << 24], 1 << 24)).unwrap();
        assert!(read_all(file.path(), 128 + (1 << 24)).is_ok());
        assert!(read_all(file.path(), 127 + (1 << 24)).is_err());
    }

    #[test]
    fn memory_is_taken_as_elements_come() {
        /// A source of so many zeros, and the longest piece that was asked for.
        struct Source(usize, usize);
        impl Read for Source {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.1 = self.1.max(into.len());
                let count = into.len().min(self.0);
                into[..count].fill(0);
                self.0 -= count;
                Ok(count)
            }
        }
        let header = |elements: usize| {
            let bytes = Header::write(DType::C128, &[elements]).unwrap();
            Header::read(&mut bytes.as_slice()).unwrap().0
        };
        let mut source = Source(5 << 20, 0);
        assert!(read_tensor(&header(1 << 50), &mut source).is_err());
        assert_eq!(source.1, 4 << 20);
        let mut source = Source(16 * 300_001, 0);
        assert_eq!(read_tensor(&header(300_000), &mut source).unwrap().dims(), [300_000]);
        assert_eq!(source.0, 16);
    }

    #[test]
    fn other_byte_orders_and_layouts_are_read() {
        let text = b"\x93NUMPY\x01\x00\x3b\x00{'descr': '>c8', 'fortran_order': True, 'shape': (2, 2), }\n";
        let numbers = [1.0f32, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0];
        let bytes: Vec<u8> =
            text.iter().copied().chain(numbers.iter().flat_map(|x| x.to_be_bytes())).collect();
        let mut bytes = bytes.as_slice();
        let (header, _) = Header::read(&mut bytes).unwrap();
        let tensor = read_tensor(&header, &mut bytes).unwrap();
        let expected = [1.0, 3.0, 2.0, 4.0].map(|x| Complex::new(x, -x));
        assert_eq!(tensor.as_slice::<Complex<f32>>().unwrap(), expected);
        let bools = Header { dtype: DType::Bool, ..header };
        assert!(read_tensor(&bools, &mut [0u8, 1, 1, 2].as_slice()).is_err());
        let tensor = read_tensor(&bools, &mut [0u8, 0, 1, 1].as_slice()).unwrap();
        assert_eq!(tensor.as_slice::<bool>().unwrap(), [false, true, false, true]);
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(read("no/such.npz").unwrap_err().to_string().contains("no/such.npz"));
    }
}
