//! Comparing the arrays of npz files: zip archives of arrays in numpy's npy format.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use crate::Result;

/// How far two arrays may differ: `|actual - expected| <= absolute + relative * |expected|`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// Share of the expected value.
    pub(crate) relative: f32,
    /// Added to that.
    pub(crate) absolute: f32,
}

/// A named array of f32.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    name: String,
    dims: Vec<u64>,
    values: Vec<f32>,
}

/// All arrays of a file, sorted by name.
pub(crate) fn read(path: &Path) -> Result<Vec<Array>> {
    let fail = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let file = File::open(path).map_err(|e| fail(&e))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| fail(&e))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| fail(&e))?;
        let name = entry.name().map_err(|e| fail(&e))?.trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| fail(&e))?;
        let (dims, values) = parse_npy(&bytes).map_err(|e| fail(&format!("{name}: {e}")))?;
        arrays.push(Array { name, dims, values });
    }
    arrays.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(arrays)
}

/// Shape and values of an npy file of f32 in row-major order, as the shipped models have.
///
/// The layout is that of numpy's `lib/format`: magic, version, length of the header, header, elements.
fn parse_npy(bytes: &[u8]) -> Result<(Vec<u64>, Vec<f32>)> {
    let bytes = bytes.strip_prefix(b"\x93NUMPY").ok_or("no npy file")?;
    let (version, bytes) = bytes.split_first_chunk::<2>().ok_or("cut off")?;
    let (length, bytes) = match version[0] {
        1 => bytes.split_first_chunk().map(|(n, rest)| (u32::from(u16::from_le_bytes(*n)), rest)),
        _ => bytes.split_first_chunk().map(|(n, rest)| (u32::from_le_bytes(*n), rest)),
    }
    .ok_or("cut off")?;
    let (header, data) = bytes.split_at_checked(length as usize).ok_or("cut off")?;
    let header = String::from_utf8_lossy(header).replace('"', "'");
    if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
        return Err(format!("only f32 in row-major order can be compared, not {}", header.trim()));
    }
    let dims = parse_dims(&header).ok_or_else(|| format!("no shape in {}", header.trim()))?;
    let (elements, []) = data.as_chunks() else { return Err("cut off".to_owned()) };
    let values: Vec<f32> = elements.iter().map(|element| f32::from_le_bytes(*element)).collect();
    let is_whole = dims.iter().try_fold(1, |n: u64, dim| n.checked_mul(*dim)) == Some(values.len() as u64);
    if is_whole { Ok((dims, values)) } else { Err(format!("{} elements, shape {dims:?}", values.len())) }
}

fn parse_dims(header: &str) -> Option<Vec<u64>> {
    let (_, rest) = header.split_once("'shape': (")?;
    let (dims, _) = rest.split_once(')')?;
    dims.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(|dim| dim.parse().ok()).collect()
}

/// The largest difference between arrays of the same names and shapes, or the first one that is too large.
pub(crate) fn compare(actual: &[Array], expected: &[Array], tolerance: Tolerance) -> Result<f32> {
    let heads = |arrays: &[Array]| -> Vec<String> {
        arrays.iter().map(|array| format!("{} {:?}", array.name, array.dims)).collect()
    };
    if heads(actual) != heads(expected) {
        return Err(format!("has {}, expected {}", heads(actual).join(", "), heads(expected).join(", ")));
    }
    let mut largest = 0.0f32;
    for (a, e) in actual.iter().zip(expected) {
        for (i, (&x, &y)) in a.values.iter().zip(&e.values).enumerate() {
            let difference = (x - y).abs();
            let close = difference <= tolerance.absolute + tolerance.relative * y.abs();
            if !close {
                return Err(format!("{}[{i}] is {x}, expected {y}", a.name));
            }
            largest = largest.max(difference);
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { relative: 1e-2, absolute: 1e-3 };

    fn array(dims: &[u64], values: &[f32]) -> Vec<Array> {
        vec![Array { name: "out_0".to_owned(), dims: dims.to_vec(), values: values.to_vec() }]
    }

    #[test]
    fn close_values_are_equal_and_distant_ones_are_named() {
        let expected = array(&[2], &[100.0, 0.0]);
        assert_eq!(compare(&array(&[2], &[100.5, 0.0]), &expected, TOLERANCE), Ok(0.5));
        let error = compare(&array(&[2], &[100.0, 0.01]), &expected, TOLERANCE).unwrap_err();
        assert_eq!(error, "out_0[1] is 0.01, expected 0");
        assert!(compare(&array(&[2], &[f32::NAN, 0.0]), &expected, TOLERANCE).is_err());
    }

    #[test]
    fn shapes_and_names_must_match() {
        let expected = array(&[2, 1], &[1.0, 2.0]);
        let error = compare(&array(&[1, 2], &[1.0, 2.0]), &expected, TOLERANCE).unwrap_err();
        assert_eq!(error, "has out_0 [1, 2], expected out_0 [2, 1]");
        assert!(compare(&[], &expected, TOLERANCE).is_err());
    }

    #[test]
    fn numpy_files_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2");
        let arrays = read(&folder.join("outputs.npz")).unwrap();
        let heads: Vec<_> = arrays.iter().map(|a| (a.name.as_str(), &a.dims[..], a.values.len())).collect();
        assert_eq!(heads, [("out_0", &[8, 16][..], 128)]);
    }

    #[test]
    fn damaged_arrays_are_errors() {
        let npy = |header: &str, data: &[u8]| {
            let length = u16::try_from(header.len()).unwrap().to_le_bytes();
            [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
        };
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
        let good = npy(header, &1.5f32.to_le_bytes());
        assert_eq!(parse_npy(&good), Ok((vec![1], vec![1.5])));
        for end in 0..good.len() {
            assert!(parse_npy(&good[..end]).is_err(), "{end}");
        }
        assert!(parse_npy(&npy(header, &[0; 8])).is_err());
        assert!(parse_npy(&npy(&header.replace("f4", "f8"), &[0; 8])).is_err());
    }

    #[test]
    fn an_absent_file_is_named() {
        assert!(read(Path::new("absent.npz")).unwrap_err().contains("absent.npz"));
    }
}
