//! Samples of images at computed places, and resizing by more than two neighbours or along one or three axes.

use mslite_tensor::{DType, Dim, Tensor};

use super::create::counter;
use super::opaque;
use super::resize::{Coordinates, MAX_SIDE, interpolation, nearest_place, stated_coordinates, upsampled};
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, MatMul, Op, Unary};

/// How a function of one axis turns places before into places after: a matrix [after, before].
type Weights = fn(&mut Call, (usize, usize), Coordinates) -> Result<ValueId>;

/// `(image, size, align_corners=False, half_pixel_centers=False)`
pub(in crate::import) fn bicubic(call: &mut Call) -> Result<Item> {
    let coordinates = stated_coordinates(call)?;
    let sizes = call.ints(1, "size")?;
    resized(call, sizes, coordinates, table_cubic)
}

/// `(x, output_size=None, scales=None, align_corners=False)`
pub(in crate::import) fn upsample_bicubic(call: &mut Call) -> Result<Item> {
    let coordinates = corners(call)?;
    let sizes = upsampled(call)?;
    resized(call, sizes, coordinates, cubic)
}

/// Along one or three axes: `(x, output_size=None, scales=None, align_corners=False)`.
pub(in crate::import) fn upsample_linear(call: &mut Call) -> Result<Item> {
    let coordinates = corners(call)?;
    let sizes = upsampled(call)?;
    resized(call, sizes, coordinates, interpolation)
}

fn corners(call: &mut Call) -> Result<Coordinates> {
    Ok(if call.flag(3, "align_corners")? { Coordinates::AlignCorners } else { Coordinates::HalfPixel })
}

/// `(x [n, c, w], size, coordinate_transformation_mode=align_corners)`
pub(in crate::import) fn linear1d(call: &mut Call) -> Result<Item> {
    const MODES: [Coordinates; 3] =
        [Coordinates::Asymmetric, Coordinates::AlignCorners, Coordinates::HalfPixel];
    let mode =
        call.choice(2, "coordinate_transformation_mode", &["asymmetric", "align_corners", "half_pixel"], 1)?;
    let sizes = call.ints(1, "size")?;
    resized(call, sizes, MODES[mode], interpolation)
}

/// `(x, output_size=None, scales=None)` along one or three axes.
pub(in crate::import) fn upsample_nearest(call: &mut Call) -> Result<Item> {
    let sizes = upsampled(call)?;
    let mut x = call.tensor(0, "x")?;
    let Some(sides) = sides(call, x, sizes)? else { return opaque::lower(call) };
    for (axis, from, to) in sides {
        let places = (0..to).map(|place| nearest_place(place, from, to, Coordinates::Asymmetric)).collect();
        let places = call.emit.ints(places)?;
        x = call.emit.op(Op::Gather(Gather { axis, batch_dims: 0 }), &[x, places])?;
    }
    Ok(Item::Tensor(x))
}

/// Axis, extent before, and extent after of the axes behind the channels; nothing where they are not known.
fn sides(call: &Call, x: ValueId, sizes: Option<Vec<i64>>) -> Result<Option<Vec<(usize, usize, usize)>>> {
    let dims = call.emit.dims(x)?;
    let Some(sizes) = sizes.filter(|sizes| sizes.len() + 2 == dims.len()) else { return Ok(None) };
    let mut sides = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        let Some(extent) = dims[2 + i].as_fixed() else { return Ok(None) };
        if !(1..=MAX_SIDE).contains(&extent) || !(1..=MAX_SIDE).contains(&size) {
            return Ok(None);
        }
        sides.push((2 + i, extent as usize, size as usize));
    }
    Ok(Some(sides))
}

fn resized(
    call: &mut Call,
    sizes: Option<Vec<i64>>,
    coordinates: Coordinates,
    weights: Weights,
) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let Some(sides) = sides(call, x, sizes)? else { return opaque::lower(call) };
    let dtype = call.emit.dtype(x);
    let mut x = call.emit.cast(x, DType::F32)?;
    let rank = call.emit.rank(x)?;
    for (axis, from, to) in sides.into_iter().filter(|(_, from, to)| from != to) {
        let weights = weights(call, (from, to), coordinates)?;
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(axis, rank - 1);
        x = call.emit.transpose(x, perm.clone())?;
        let op = MatMul { transpose_b: true, ..MatMul::default() };
        x = call.emit.op(Op::MatMul(op), &[x, weights])?;
        x = call.emit.transpose(x, perm)?;
    }
    call.emit.cast(x, dtype).map(Item::Tensor)
}

fn place(at: usize, (from, to): (usize, usize), coordinates: Coordinates) -> f32 {
    let scale = super::resize::scale(from, to, coordinates);
    match coordinates {
        Coordinates::HalfPixel => (at as f32 + 0.5) * scale - 0.5,
        _ => at as f32 * scale,
    }
}

/// The four weights of the cubic through neighbours at distances `1 + part`, `part`, `1 - part` and `2 - part`.
fn keys(part: f32, a: f32) -> [f32; 4] {
    let near = |x: f32| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    [far(1.0 + part), near(part), near(1.0 - part), far(2.0 - part)]
}

/// Bicubic weights; places beyond the edge are the edge.
fn cubic(call: &mut Call, (from, to): (usize, usize), coordinates: Coordinates) -> Result<ValueId> {
    matrix(call, (from, to), |at| {
        let at = place(at, (from, to), coordinates);
        (at.floor(), keys(at - at.floor(), -0.75))
    })
}

/// As [`cubic`], with the distance rounded to one of 1024 steps, as MindSpore's kernel does. With half-pixel centres
/// the cubic is another one, and places beyond the edge have no weight.
fn table_cubic(call: &mut Call, (from, to): (usize, usize), coordinates: Coordinates) -> Result<ValueId> {
    const STEPS: f32 = 1024.0;
    let halves = coordinates == Coordinates::HalfPixel;
    let a = if halves { -0.5 } else { -0.75 };
    matrix(call, (from, to), |at| {
        let at = place(at, (from, to), coordinates);
        let part = ((at - at.floor()) * STEPS).round_ties_even() / STEPS;
        let mut weights = keys(part, a);
        if halves {
            for (i, weight) in weights.iter_mut().enumerate() {
                let place = at.floor() + i as f32 - 1.0;
                *weight *= f32::from(u8::from(place >= 0.0 && place < from as f32));
            }
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        (at.floor(), weights)
    })
}

fn matrix(
    call: &mut Call,
    (from, to): (usize, usize),
    weights: impl Fn(usize) -> (f32, [f32; 4]),
) -> Result<ValueId> {
    let mut all = vec![0f32; from * to];
    for (at, row) in all.chunks_exact_mut(from).enumerate() {
        let (base, weights) = weights(at);
        for (i, weight) in weights.into_iter().enumerate() {
            let place = (base as i64 + i as i64 - 1).clamp(0, from as i64 - 1);
            row[place as usize] += weight;
        }
    }
    let tensor = Tensor::from_vec(all, &[to, from]).map_err(|e| call.invalid(e))?;
    Ok(call.emit.builder.constant("", tensor))
}

/// `(theta [n, 2, 3], output_size [n, c, h, w])`: for each place of the result its image under theta.
pub(in crate::import) fn affine_grid(call: &mut Call) -> Result<Item> {
    let theta = call.tensor(0, "theta")?;
    let sizes = call.required_dims(1, "output_size")?;
    let corners = call.flag(ATTRIBUTE, "align_corners")?;
    let [n, _, h, w] = &sizes[..] else { return opaque::lower(call) };
    let dtype = call.emit.dtype(theta);
    let ys = normalised_places(call, h, corners)?;
    let xs = normalised_places(call, w, corners)?;
    let full = vec![h.clone(), w.clone(), Dim::from(1)];
    let one = call.emit.scalar(1.0, DType::F32)?;
    let xs = call.emit.reshape(xs, vec![Dim::from(1), w.clone(), Dim::from(1)])?;
    let ys = call.emit.reshape(ys, vec![h.clone(), Dim::from(1), Dim::from(1)])?;
    let mut parts = Vec::new();
    for part in [xs, ys, one] {
        parts.push(call.emit.broadcast(part, full.clone())?);
    }
    let base = call.emit.concat(&parts, 2)?;
    let base = call.emit.reshape(base, vec![Dim::from(1), h * w, Dim::from(3)])?;
    let base = call.emit.cast(base, dtype)?;
    let op = MatMul { transpose_b: true, ..MatMul::default() };
    let grid = call.emit.op(Op::MatMul(op), &[base, theta])?;
    call.emit.reshape(grid, vec![n.clone(), h.clone(), w.clone(), Dim::from(2)]).map(Item::Tensor)
}

/// From -1 to 1: the centres of the outermost places, or their outer edges.
fn normalised_places(call: &mut Call, extent: &Dim, corners: bool) -> Result<ValueId> {
    let counter = counter(call, extent.clone())?;
    let counter = call.emit.cast(counter, DType::F32)?;
    let doubled = call.emit.with_scalar(Binary::Mul, counter, 2.0)?;
    let one = Dim::from(1);
    let (steps, shift) =
        if corners { (extent - &one, extent - &one) } else { (extent.clone(), extent - &one) };
    let shift = call.emit.dim(&shift, DType::F32)?;
    let centred = call.emit.binary(Binary::Sub, doubled, shift)?;
    let steps = call.emit.dim(&steps.maximum(&one), DType::F32)?;
    call.emit.binary(Binary::Div, centred, steps)
}

/// `(x [n, c, h, w], grid [n, oh, ow, 2], interpolation=bilinear, padding=zeros, align_corners=False)`
pub(in crate::import) fn grid_sampler(call: &mut Call) -> Result<Item> {
    let (x, grid) = (call.tensor(0, "input_x")?, call.tensor(1, "grid")?);
    let mode = call.choice(2, "interpolation_mode", &["bilinear", "nearest", "bicubic"], 0)?;
    let padding = call.choice(3, "padding_mode", &["zeros", "border", "reflection"], 0)?;
    let corners = call.flag(4, "align_corners")?;
    let (dims, places) = (call.emit.dims(x)?, call.emit.dims(grid)?);
    let ([n, c, h, w], [_, high, wide, _]) = (&dims[..], &places[..]) else { return opaque::lower(call) };
    if mode == 2 || padding == 2 {
        return opaque::lower(call);
    }
    let dtype = call.emit.dtype(x);
    let count = high * wide;
    let flat = call.emit.reshape(grid, vec![n.clone(), count.clone(), Dim::from(2)])?;
    let flat = call.emit.cast(flat, DType::F32)?;
    let mut at = Vec::new();
    for (i, extent) in [(1, h), (0, w)] {
        let along = call.emit.narrow(flat, 2, Dim::from(i), Dim::from(1))?;
        let along = call.emit.reshape(along, vec![n.clone(), count.clone()])?;
        let along = unnormalised(call, along, extent, corners)?;
        at.push(match padding {
            1 => limited(call, along, extent)?,
            _ => along,
        });
    }
    let pixels = call.emit.reshape(x, vec![n.clone(), c.clone(), h * w])?;
    let pixels = call.emit.transpose(pixels, vec![0, 2, 1])?;
    let pixels = call.emit.cast(pixels, DType::F32)?;
    let image = Image { pixels, h, w };
    let y = match mode {
        1 => {
            let (row, column) =
                (call.emit.unary(Unary::Round, at[0])?, call.emit.unary(Unary::Round, at[1])?);
            pixel(call, &image, row, column, None)?
        }
        _ => four_neighbours(call, &image, at[0], at[1])?,
    };
    let y = call.emit.transpose(y, vec![0, 2, 1])?;
    let y = call.emit.reshape(y, vec![n.clone(), c.clone(), high.clone(), wide.clone()])?;
    call.emit.cast(y, dtype).map(Item::Tensor)
}

struct Image<'a> {
    /// [batch, height * width, channels]
    pixels: ValueId,
    h: &'a Dim,
    w: &'a Dim,
}

/// From -1 to 1 to places of an axis.
fn unnormalised(call: &mut Call, x: ValueId, extent: &Dim, corners: bool) -> Result<ValueId> {
    let one = Dim::from(1);
    if corners {
        let moved = call.emit.with_scalar(Binary::Add, x, 1.0)?;
        let half = call.emit.with_scalar(Binary::Mul, moved, 0.5)?;
        let last = call.emit.dim(&(extent - &one), DType::F32)?;
        return call.emit.binary(Binary::Mul, half, last);
    }
    let moved = call.emit.with_scalar(Binary::Add, x, 1.0)?;
    let extent = call.emit.dim(extent, DType::F32)?;
    let scaled = call.emit.binary(Binary::Mul, moved, extent)?;
    let less = call.emit.with_scalar(Binary::Sub, scaled, 1.0)?;
    call.emit.with_scalar(Binary::Mul, less, 0.5)
}

/// Between 0 and the last place.
fn limited(call: &mut Call, x: ValueId, extent: &Dim) -> Result<ValueId> {
    let last = call.emit.dim(&(extent - &Dim::from(1)), call.emit.dtype(x))?;
    let x = call.emit.with_scalar(Binary::Maximum, x, 0.0)?;
    call.emit.binary(Binary::Minimum, x, last)
}

/// The pixels at places, [batch, places, channels], 0 outside, times a weight for each place.
fn pixel(
    call: &mut Call,
    image: &Image,
    row: ValueId,
    column: ValueId,
    weight: Option<ValueId>,
) -> Result<ValueId> {
    let (near_row, near_column) = (limited(call, row, image.h)?, limited(call, column, image.w)?);
    let (a, b) = (
        call.emit.binary(Binary::Equal, row, near_row)?,
        call.emit.binary(Binary::Equal, column, near_column)?,
    );
    let inside = call.emit.binary(Binary::And, a, b)?;
    let (row, column) = (call.emit.cast(near_row, DType::I64)?, call.emit.cast(near_column, DType::I64)?);
    let width = call.emit.dim(image.w, DType::I64)?;
    let at = call.emit.binary(Binary::Mul, row, width)?;
    let at = call.emit.binary(Binary::Add, at, column)?;
    let taken = call.emit.op(Op::Gather(Gather { axis: 1, batch_dims: 1 }), &[image.pixels, at])?;
    let factor = call.emit.cast(inside, DType::F32)?;
    let factor = match weight {
        Some(weight) => call.emit.binary(Binary::Mul, factor, weight)?,
        None => factor,
    };
    let factor = super::index::rows(call, factor)?;
    call.emit.binary(Binary::Mul, taken, factor)
}

fn four_neighbours(call: &mut Call, image: &Image, row: ValueId, column: ValueId) -> Result<ValueId> {
    let mut sides = Vec::new();
    for place in [row, column] {
        let low = call.emit.unary(Unary::Floor, place)?;
        let high = call.emit.with_scalar(Binary::Add, low, 1.0)?;
        let part = call.emit.binary(Binary::Sub, place, low)?;
        let rest = call.emit.binary(Binary::Sub, high, place)?;
        sides.push([(low, rest), (high, part)]);
    }
    let mut sum: Option<ValueId> = None;
    for (row, down) in sides[0] {
        for (column, over) in sides[1] {
            let weight = call.emit.binary(Binary::Mul, down, over)?;
            let part = pixel(call, image, row, column, Some(weight))?;
            sum = Some(match sum {
                Some(sum) => call.emit.binary(Binary::Add, sum, part)?,
                None => part,
            });
        }
    }
    sum.ok_or_else(|| call.invalid("it has no neighbours"))
}
