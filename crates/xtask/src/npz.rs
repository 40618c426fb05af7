//! Comparing the arrays of npz files.

use std::path::Path;

use mslite_tensor::{Tensor, npz};

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
    dims: Vec<usize>,
    values: Vec<f32>,
}

/// All arrays of a file, sorted by name.
pub(crate) fn read(path: &Path) -> Result<Vec<Array>> {
    let arrays = npz::read(path).map_err(|error| format!("cannot read {error}"))?;
    let array = |(name, tensor): (String, Tensor)| {
        let values = tensor.to_vec().map_err(|error| format!("{}: {name}: {error}", path.display()))?;
        Ok(Array { name, dims: tensor.dims().to_vec(), values })
    };
    let mut arrays = arrays.into_iter().map(array).collect::<Result<Vec<Array>>>()?;
    arrays.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(arrays)
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

    fn array(dims: &[usize], values: &[f32]) -> Vec<Array> {
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
    fn an_absent_file_is_named() {
        assert!(read(Path::new("absent.npz")).unwrap_err().contains("absent.npz"));
    }
}
