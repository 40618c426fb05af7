//! Resizing of images [n, c, h, w]: products with matrices of weights, and gathering of rows.

use mslite_tensor::{DType, Dim, Tensor};

use super::opaque;
use crate::Result;
use crate::import::call::Call;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Gather, MatMul, Op};

/// Largest height or width for which weights are made.
pub(super) const MAX_SIDE: i64 = 4096;

/// Which place of the operand a place of the result shows.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Coordinates {
    Asymmetric,
    AlignCorners,
    HalfPixel,
}

/// `(image, size, align_corners=False, half_pixel_centers=False)`
pub(in crate::import) fn bilinear(call: &mut Call) -> Result<Item> {
    let coordinates = stated_coordinates(call)?;
    let sizes = call.ints(1, "size")?;
    linear(call, sizes, coordinates)
}

/// `(x, output_size=None, scales=None, align_corners=False)`
pub(in crate::import) fn upsample_bilinear(call: &mut Call) -> Result<Item> {
    let corners = call.flag(3, "align_corners")?;
    let sizes = upsampled(call)?;
    linear(call, sizes, if corners { Coordinates::AlignCorners } else { Coordinates::HalfPixel })
}

/// As [`bilinear`], but the nearest place.
pub(in crate::import) fn nearest(call: &mut Call) -> Result<Item> {
    let coordinates = stated_coordinates(call)?;
    let sizes = call.ints(1, "size")?;
    closest(call, sizes, coordinates)
}

/// `(x, output_size=None, scales=None)`
pub(in crate::import) fn upsample_nearest(call: &mut Call) -> Result<Item> {
    let sizes = upsampled(call)?;
    closest(call, sizes, Coordinates::Asymmetric)
}

pub(super) fn stated_coordinates(call: &mut Call) -> Result<Coordinates> {
    let (corners, half) = (call.flag(2, "align_corners")?, call.flag(3, "half_pixel_centers")?);
    Ok(match (corners, half) {
        (true, _) => Coordinates::AlignCorners,
        (_, true) => Coordinates::HalfPixel,
        _ => Coordinates::Asymmetric,
    })
}

/// The size that is given, or that follows from the scales.
pub(super) fn upsampled(call: &mut Call) -> Result<Option<Vec<i64>>> {
    if let Some(sizes) = call.ints(1, "output_size")? {
        return Ok(Some(sizes));
    }
    let scales: Vec<f64> = match call.arg(2, "scales") {
        Some(Item::Tuple(items)) => items
            .iter()
            .map(|item| match item {
                Item::Float(scale) => Some(*scale),
                Item::Int(dim) => dim.as_fixed().map(|n| n as f64),
                _ => None,
            })
            .collect::<Option<_>>()
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    if scales.len() + 2 != dims.len() {
        return Err(call.invalid("output_size and scales are missing"));
    }
    let scaled = |(dim, scale): (&Dim, &f64)| dim.as_fixed().map(|n| (n as f64 * scale) as i64);
    Ok(dims[2..].iter().zip(&scales).map(scaled).collect())
}

fn fixed(call: &Call, x: ValueId) -> Result<Option<[i64; 4]>> {
    let dims = call.emit.dims(x)?;
    let fixed: Vec<i64> = dims.iter().map(|dim| dim.as_fixed().unwrap_or(-1)).collect();
    let fixed: [i64; 4] = fixed.try_into().map_err(|_| call.invalid("the image must have rank 4"))?;
    Ok((fixed[2] >= 0 && fixed[3] >= 0).then_some(fixed))
}

/// Sides of the image before and after, where they are known and weights can be made.
fn sides(call: &mut Call, sizes: Option<Vec<i64>>) -> Result<Option<[(usize, usize); 2]>> {
    let x = call.tensor(0, "x")?;
    let (Some([_, _, h, w]), Some(sizes)) = (fixed(call, x)?, sizes) else { return Ok(None) };
    let [out_h, out_w] = sizes[..] else { return Err(call.invalid("size must be height and width")) };
    if [h, w, out_h, out_w].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return Ok(None);
    }
    Ok(Some([(h as usize, out_h as usize), (w as usize, out_w as usize)]))
}

fn linear(call: &mut Call, sizes: Option<Vec<i64>>, coordinates: Coordinates) -> Result<Item> {
    let Some([rows, columns]) = sides(call, sizes)? else { return opaque::lower(call) };
    let x = call.tensor(0, "x")?;
    let dtype = call.emit.dtype(x);
    let x = call.emit.cast(x, DType::F32)?;
    let weights = interpolation(call, rows, coordinates)?;
    let x = call.emit.op(Op::MatMul(MatMul::default()), &[weights, x])?;
    let weights = interpolation(call, columns, coordinates)?;
    let x = call.emit.op(Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() }), &[x, weights])?;
    call.emit.cast(x, dtype).map(Item::Tensor)
}

fn closest(call: &mut Call, sizes: Option<Vec<i64>>, coordinates: Coordinates) -> Result<Item> {
    let Some(sides) = sides(call, sizes)? else { return opaque::lower(call) };
    let mut x = call.tensor(0, "x")?;
    for (i, (from, to)) in sides.into_iter().enumerate() {
        if from == to {
            continue;
        }
        let places = (0..to).map(|place| nearest_place(place, from, to, coordinates)).collect();
        let places = call.emit.ints(places)?;
        x = call.emit.op(Op::Gather(Gather { axis: 2 + i, batch_dims: 0 }), &[x, places])?;
    }
    Ok(Item::Tensor(x))
}

pub(super) fn scale(from: usize, to: usize, coordinates: Coordinates) -> f32 {
    match coordinates {
        Coordinates::AlignCorners if to > 1 => (from - 1) as f32 / (to - 1) as f32,
        _ => from as f32 / to as f32,
    }
}

pub(super) fn nearest_place(place: usize, from: usize, to: usize, coordinates: Coordinates) -> i64 {
    let scale = scale(from, to, coordinates);
    let at = match coordinates {
        Coordinates::AlignCorners => (place as f32 * scale).round(),
        Coordinates::HalfPixel => ((place as f32 + 0.5) * scale).floor(),
        Coordinates::Asymmetric => (place as f32 * scale).floor(),
    };
    (at as i64).clamp(0, from as i64 - 1)
}

/// A matrix [to, from] of which each row has the weights of two neighbours.
pub(super) fn interpolation(
    call: &mut Call,
    (from, to): (usize, usize),
    coordinates: Coordinates,
) -> Result<ValueId> {
    let scale = scale(from, to, coordinates);
    let mut weights = vec![0f32; from * to];
    for (place, row) in weights.chunks_exact_mut(from).enumerate() {
        let at = match coordinates {
            Coordinates::HalfPixel => ((place as f32 + 0.5) * scale - 0.5).max(0.0),
            _ => place as f32 * scale,
        };
        let low = (at as usize).min(from - 1);
        let part = (at - low as f32).clamp(0.0, 1.0);
        row[low] += 1.0 - part;
        row[(low + 1).min(from - 1)] += part;
    }
    let tensor = Tensor::from_vec(weights, &[to, from]).map_err(|e| call.invalid(e))?;
    Ok(call.emit.builder.constant("", tensor))
}
