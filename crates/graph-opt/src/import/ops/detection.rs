//! Boxes: x0, y0, x1, y1 of opposite corners along the last axis.

use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, Op, ReduceKind, TopK, Unary};

/// The columns of a matrix, each `[rows, 1]`.
fn columns(call: &mut Call, x: ValueId, count: i64) -> Result<Vec<ValueId>> {
    let axis = call.emit.axis(-1, call.emit.rank(x)?)?;
    (0..count).map(|i| call.emit.narrow(x, axis, Dim::from(i), Dim::from(1))).collect()
}

/// Intersections and areas of all pairs: `[rows of a, rows of b]`, `[rows of a, 1]`, `[1, rows of b]`. Sides are
/// `far - near + extra`, not below 0.
fn overlaps(call: &mut Call, a: ValueId, b: ValueId, extra: f64) -> Result<[ValueId; 3]> {
    let a = columns(call, a, 4)?;
    let mut b = columns(call, b, 4)?;
    for x in &mut b {
        *x = call.emit.transpose(*x, vec![1, 0])?;
    }
    let side = |call: &mut Call, near: ValueId, far: ValueId| {
        let length = call.emit.binary(Binary::Sub, far, near)?;
        let length = if extra == 0.0 { length } else { call.emit.with_scalar(Binary::Add, length, extra)? };
        call.emit.with_scalar(Binary::Maximum, length, 0.0)
    };
    let mut shared = Vec::new();
    for i in 0..2 {
        let near = call.emit.binary(Binary::Maximum, a[i], b[i])?;
        let far = call.emit.binary(Binary::Minimum, a[i + 2], b[i + 2])?;
        shared.push(side(call, near, far)?);
    }
    let intersection = call.emit.binary(Binary::Mul, shared[0], shared[1])?;
    let mut area = |x: &[ValueId]| {
        let (width, height) = (side(call, x[0], x[2])?, side(call, x[1], x[3])?);
        call.emit.binary(Binary::Mul, width, height)
    };
    Ok([intersection, area(&a)?, area(&b)?])
}

/// `(anchor_boxes [a, 4], gt_boxes [b, 4]) -> [b, a]`: intersection over union, or over the area of gt_boxes
/// (`mode` "iof"). A side of a box includes both its ends.
pub(in crate::import) fn iou(call: &mut Call) -> Result<ValueId> {
    let (anchors, truths) = (call.tensor(0, "anchor_boxes")?, call.tensor(1, "gt_boxes")?);
    let dtype = call.emit.dtype(anchors);
    let is_foreground = call.choice(ATTRIBUTE, "mode", &["iou", "iof"], 0)? == 1;
    let (anchors, truths) = (call.emit.cast(anchors, DType::F32)?, call.emit.cast(truths, DType::F32)?);
    let [shared, area, own] = overlaps(call, truths, anchors, 1.0)?;
    let whole = match is_foreground {
        true => area,
        false => {
            let sum = call.emit.binary(Binary::Add, area, own)?;
            call.emit.binary(Binary::Sub, sum, shared)?
        }
    };
    let ratio = call.emit.binary(Binary::Div, shared, whole)?;
    call.emit.cast(ratio, dtype)
}

/// `(bboxes [n, 4], img_metas [height, width, ratio])`: whether a box lies inside the image.
pub(in crate::import) fn check_valid(call: &mut Call) -> Result<ValueId> {
    let (boxes, metas) = (call.tensor(0, "bboxes")?, call.tensor(1, "img_metas")?);
    let dtype = call.emit.dtype(boxes);
    let metas = call.emit.cast(metas, dtype)?;
    let metas = call.emit.reshape(metas, vec![Dim::from(1), Dim::from(3)])?;
    let metas = columns(call, metas, 3)?;
    let b = columns(call, boxes, 4)?;
    let mut inside = Vec::new();
    for i in 0..2 {
        let extent = call.emit.binary(Binary::Mul, metas[1 - i], metas[2])?;
        let last = call.emit.with_scalar(Binary::Sub, extent, 1.0)?;
        inside.push(call.emit.with_scalar(Binary::GreaterEqual, b[i], 0.0)?);
        inside.push(call.emit.binary(Binary::LessEqual, b[i + 2], last)?);
    }
    let inside = call.emit.concat(&inside, 1)?;
    call.emit.reduce(ReduceKind::All, inside, vec![1], false)
}

/// The four numbers of an attribute.
fn four(call: &mut Call, name: &str, default: f64) -> Result<[f64; 4]> {
    let mut numbers = [default; 4];
    if let Some(Item::Tuple(items)) = call.attribute(name) {
        for (to, item) in numbers.iter_mut().zip(items.iter()) {
            *to = match item {
                Item::Float(value) => *value,
                Item::Int(dim) => dim.as_fixed().map_or(default, |n| n as f64),
                _ => return Err(call.invalid(format!("{name} must be numbers"))),
            };
        }
    }
    Ok(numbers)
}

/// Centre and size along one axis; a side includes both its ends.
fn centred(call: &mut Call, near: ValueId, far: ValueId) -> Result<(ValueId, ValueId)> {
    let sum = call.emit.binary(Binary::Add, near, far)?;
    let length = call.emit.binary(Binary::Sub, far, near)?;
    Ok((call.emit.with_scalar(Binary::Mul, sum, 0.5)?, call.emit.with_scalar(Binary::Add, length, 1.0)?))
}

/// `(anchor_box [n, 4], deltas [n, 4])`: the boxes that lie by so much beside the anchors.
pub(in crate::import) fn decode(call: &mut Call) -> Result<ValueId> {
    let (anchors, deltas) = (call.tensor(0, "anchor_box")?, call.tensor(1, "deltas")?);
    let (means, deviations) = (four(call, "means", 0.0)?, four(call, "stds", 1.0)?);
    let clip = call.float_or(ATTRIBUTE, "wh_ratio_clip", 0.016)?.ln().abs();
    let shape = call.required_ints(ATTRIBUTE, "max_shape")?;
    let dtype = call.emit.dtype(anchors);
    let (anchors, deltas) = (call.emit.cast(anchors, DType::F32)?, call.emit.cast(deltas, DType::F32)?);
    let (a, d) = (columns(call, anchors, 4)?, columns(call, deltas, 4)?);
    let mut denormalised = Vec::new();
    for (i, &x) in d.iter().enumerate() {
        let x = call.emit.with_scalar(Binary::Mul, x, deviations[i])?;
        let x = call.emit.with_scalar(Binary::Add, x, means[i])?;
        let x = if i < 2 { x } else { call.emit.unary(Unary::Clip { low: -clip, high: clip }, x)? };
        denormalised.push(x);
    }
    let mut corners = [a[0]; 4];
    for i in 0..2 {
        let limit = shape.get(1 - i).copied().unwrap_or(0) as f64;
        let (centre, size) = centred(call, a[i], a[i + 2])?;
        let growth = call.emit.unary(Unary::Exp, denormalised[i + 2])?;
        let grown = call.emit.binary(Binary::Mul, size, growth)?;
        let moved = call.emit.binary(Binary::Mul, size, denormalised[i])?;
        let centre = call.emit.binary(Binary::Add, centre, moved)?;
        let half = call.emit.with_scalar(Binary::Mul, grown, 0.5)?;
        let half = call.emit.with_scalar(Binary::Sub, half, 0.5)?;
        for (to, f) in [(i, Binary::Sub), (i + 2, Binary::Add)] {
            let corner = call.emit.binary(f, centre, half)?;
            corners[to] = call.emit.unary(Unary::Clip { low: 0.0, high: limit }, corner)?;
        }
    }
    let boxes = call.emit.concat(&corners, 1)?;
    call.emit.cast(boxes, dtype)
}

/// `(anchor_box [n, 4], groundtruth_box [n, 4])`: by how much the boxes lie beside the anchors.
pub(in crate::import) fn encode(call: &mut Call) -> Result<ValueId> {
    let (anchors, truths) = (call.tensor(0, "anchor_box")?, call.tensor(1, "groundtruth_box")?);
    let (means, deviations) = (four(call, "means", 0.0)?, four(call, "stds", 1.0)?);
    let dtype = call.emit.dtype(anchors);
    let (anchors, truths) = (call.emit.cast(anchors, DType::F32)?, call.emit.cast(truths, DType::F32)?);
    let (a, t) = (columns(call, anchors, 4)?, columns(call, truths, 4)?);
    let mut deltas = [a[0]; 4];
    for i in 0..2 {
        let ((at, size), (to, length)) = (centred(call, a[i], a[i + 2])?, centred(call, t[i], t[i + 2])?);
        let moved = call.emit.binary(Binary::Sub, to, at)?;
        let ratio = call.emit.binary(Binary::Div, length, size)?;
        deltas[i] = call.emit.binary(Binary::Div, moved, size)?;
        deltas[i + 2] = call.emit.unary(Unary::Log, ratio)?;
    }
    for (i, delta) in deltas.iter_mut().enumerate() {
        let centred = call.emit.with_scalar(Binary::Sub, *delta, means[i])?;
        *delta = call.emit.with_scalar(Binary::Div, centred, deviations[i])?;
    }
    let deltas = call.emit.concat(&deltas, 1)?;
    call.emit.cast(deltas, dtype)
}

/// `(bboxes [n, 5]) -> (boxes by falling score, 0 to n, mask)`: a box is masked out that overlaps a better one,
/// which is not masked out itself, by more than the threshold.
pub(in crate::import) fn nms_with_mask(call: &mut Call) -> Result<Item> {
    let boxes = call.tensor(0, "bboxes")?;
    let threshold = call.float_or(ATTRIBUTE, "iou_threshold", 0.5)?;
    let count = call.emit.dims(boxes)?[0].clone();
    let scores = call.emit.narrow(boxes, 1, Dim::from(4), Dim::from(1))?;
    let scores = call.emit.reshape(scores, vec![count.clone()])?;
    let sorted = call.emit.push(Op::TopK(TopK { k: count.clone(), axis: 0, largest: true }), &[scores])?;
    let sorted_boxes = call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[boxes, sorted[1]])?;
    let [shared, area, own] = overlaps(call, sorted_boxes, sorted_boxes, 0.0)?;
    let sum = call.emit.binary(Binary::Add, area, own)?;
    let whole = call.emit.binary(Binary::Sub, sum, shared)?;
    let ratio = call.emit.binary(Binary::Div, shared, whole)?;
    let covers = call.emit.with_scalar(Binary::Greater, ratio, threshold)?;
    let op = Op::Triangle(crate::ir::op::Triangle { upper: true, diagonal: 1 });
    let covers = call.emit.op(op, &[covers])?;
    let mask = suppressed(call, covers, &count)?;
    let numbers = super::create::counter(call, count)?;
    let numbers = call.emit.cast(numbers, DType::I32)?;
    Ok(Item::tensors([sorted_boxes, numbers, mask]))
}

/// What stays of `count` things in order, of which row i of `covers` says which later ones thing i drops if it stays.
fn suppressed(call: &mut Call, covers: ValueId, count: &Dim) -> Result<ValueId> {
    let all = call.emit.scalar(1.0, DType::Bool)?;
    let all = call.emit.broadcast(all, vec![count.clone()])?;
    let results = call.emit.turns(count, &[all], |emit, number, carried| {
        let row = Op::Gather(Gather { axis: 0, batch_dims: 0 });
        let stays = emit.op(row.clone(), &[carried[0], number])?;
        let drops = emit.op(row, &[covers, number])?;
        let drops = emit.binary(Binary::And, drops, stays)?;
        let keeps = emit.unary(Unary::Not, drops)?;
        Ok(vec![emit.binary(Binary::And, carried[0], keeps)?])
    })?;
    Ok(results[0])
}

/// `(x [n, h, w, c], boxes [m, 4] as y0, x0, y1, x1 in parts of the sides, box_index [m], crop_size)`, `[m, ch, cw, c]`.
pub(in crate::import) fn crop_and_resize(call: &mut Call) -> Result<ValueId> {
    let (x, boxes, owner) = (call.tensor(0, "x")?, call.tensor(1, "boxes")?, call.tensor(2, "box_index")?);
    let sizes = call.required_dims(3, "crop_size")?;
    let method = call.choice(ATTRIBUTE, "method", &["bilinear", "nearest", "bilinear_v2"], 0)?;
    let outside = call.float_or(ATTRIBUTE, "extrapolation_value", 0.0)?;
    if method == 2 {
        return Err(call.unsupported("method bilinear_v2 is not known"));
    }
    let dims = call.emit.dims(x)?;
    let ([_, height, width, _], [high, wide]) = (&dims[..], &sizes[..]) else {
        return Err(call.invalid("x must have rank 4 and crop_size two numbers"));
    };
    let boxes = call.emit.cast(boxes, DType::F32)?;
    let corners = columns(call, boxes, 4)?;
    let rows = sampled(call, [corners[0], corners[2]], height, high)?;
    let across = sampled(call, [corners[1], corners[3]], width, wide)?;
    let x = call.emit.cast(x, DType::F32)?;
    let y = match method {
        1 => {
            let (row, column) =
                (call.emit.unary(Unary::Round, rows)?, call.emit.unary(Unary::Round, across)?);
            picked(call, x, owner, row, column)?
        }
        _ => blended(call, x, owner, rows, across)?,
    };
    let (a, b) = (within(call, rows, height)?, within(call, across, width)?);
    let inside = grid(call, Binary::And, a, b)?;
    let mut shape = call.emit.dims(inside)?;
    shape.push(Dim::from(1));
    let inside = call.emit.reshape(inside, shape)?;
    let outside = call.emit.scalar(outside, DType::F32)?;
    call.emit.select(inside, y, outside)
}

/// Places along one axis, `[boxes, count]`: from near to far in parts of the last place, the centre if there is one.
fn sampled(call: &mut Call, [near, far]: [ValueId; 2], extent: &Dim, count: &Dim) -> Result<ValueId> {
    let last = call.emit.dim(&(extent - &Dim::from(1)), DType::F32)?;
    if count.as_fixed() == Some(1) {
        let sum = call.emit.binary(Binary::Add, near, far)?;
        let middle = call.emit.with_scalar(Binary::Mul, sum, 0.5)?;
        return call.emit.binary(Binary::Mul, middle, last);
    }
    let counter = super::create::counter(call, count.clone())?;
    let counter = call.emit.cast(counter, DType::F32)?;
    let steps = call.emit.dim(&(count - &Dim::from(1)), DType::F32)?;
    let length = call.emit.binary(Binary::Sub, far, near)?;
    let length = call.emit.binary(Binary::Mul, length, last)?;
    let step = call.emit.binary(Binary::Div, length, steps)?;
    let along = call.emit.binary(Binary::Mul, step, counter)?;
    let start = call.emit.binary(Binary::Mul, near, last)?;
    call.emit.binary(Binary::Add, start, along)
}

/// Whether places lie inside an axis.
fn within(call: &mut Call, places: ValueId, extent: &Dim) -> Result<ValueId> {
    let last = call.emit.dim(&(extent - &Dim::from(1)), call.emit.dtype(places))?;
    let above = call.emit.with_scalar(Binary::GreaterEqual, places, 0.0)?;
    let below = call.emit.binary(Binary::LessEqual, places, last)?;
    call.emit.binary(Binary::And, above, below)
}

/// `f` of every row's `[m, h]` and every column's `[m, w]`: `[m, h, w]`.
fn grid(call: &mut Call, f: Binary, rows: ValueId, columns: ValueId) -> Result<ValueId> {
    let (mut a, mut b) = (call.emit.dims(rows)?, call.emit.dims(columns)?);
    a.push(Dim::from(1));
    b.insert(1, Dim::from(1));
    let (rows, columns) = (call.emit.reshape(rows, a)?, call.emit.reshape(columns, b)?);
    call.emit.binary(f, rows, columns)
}

/// `x[owner, row, column]` for all pairs of places, which are limited to the image.
fn picked(call: &mut Call, x: ValueId, owner: ValueId, row: ValueId, column: ValueId) -> Result<ValueId> {
    let dims = call.emit.dims(x)?;
    let limited = |call: &mut Call, places: ValueId, extent: &Dim| {
        let places = call.emit.cast(places, DType::I64)?;
        let zero = call.emit.int_scalar(0, DType::I64)?;
        let last = call.emit.dim(&(extent - &Dim::from(1)), DType::I64)?;
        let places = call.emit.binary(Binary::Maximum, places, zero)?;
        call.emit.binary(Binary::Minimum, places, last)
    };
    let (row, column) = (limited(call, row, &dims[1])?, limited(call, column, &dims[2])?);
    let owner = call.emit.cast(owner, DType::I64)?;
    let boxes = call.emit.dims(owner)?[0].clone();
    let owner = call.emit.reshape(owner, vec![boxes, Dim::from(1)])?;
    let images = call.emit.dim(&dims[1], DType::I64)?;
    let base = call.emit.binary(Binary::Mul, owner, images)?;
    let row = call.emit.binary(Binary::Add, base, row)?;
    let width = call.emit.dim(&dims[2], DType::I64)?;
    let row = call.emit.binary(Binary::Mul, row, width)?;
    let at = grid(call, Binary::Add, row, column)?;
    let pixels = &(&dims[0] * &dims[1]) * &dims[2];
    let flat = call.emit.reshape(x, vec![pixels, dims[3].clone()])?;
    call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[flat, at])
}

/// The mean of the four pixels around each pair of places, by distance.
fn blended(call: &mut Call, x: ValueId, owner: ValueId, rows: ValueId, columns: ValueId) -> Result<ValueId> {
    let (top, left) = (call.emit.unary(Unary::Floor, rows)?, call.emit.unary(Unary::Floor, columns)?);
    let (bottom, right) = (call.emit.unary(Unary::Ceil, rows)?, call.emit.unary(Unary::Ceil, columns)?);
    let (down, over) =
        (call.emit.binary(Binary::Sub, rows, top)?, call.emit.binary(Binary::Sub, columns, left)?);
    let spread = |call: &mut Call, part: ValueId, axis: usize| {
        let mut dims = call.emit.dims(part)?;
        dims.insert(axis, Dim::from(1));
        dims.push(Dim::from(1));
        call.emit.reshape(part, dims)
    };
    let (down, over) = (spread(call, down, 2)?, spread(call, over, 1)?);
    let mut lines = Vec::new();
    for row in [top, bottom] {
        let (a, b) = (picked(call, x, owner, row, left)?, picked(call, x, owner, row, right)?);
        lines.push(mixed(call, a, b, over)?);
    }
    mixed(call, lines[0], lines[1], down)
}

/// `a + (b - a) * part`
fn mixed(call: &mut Call, a: ValueId, b: ValueId, part: ValueId) -> Result<ValueId> {
    let apart = call.emit.binary(Binary::Sub, b, a)?;
    let moved = call.emit.binary(Binary::Mul, apart, part)?;
    call.emit.binary(Binary::Add, a, moved)
}

/// `(features [n, c, h, w], rois [m, 5] as owner, x0, y0, x1, y1) -> [m, c, ph, pw]`: means of samples at equal
/// distances in each part of a box.
pub(in crate::import) fn roi_align(call: &mut Call) -> Result<Item> {
    let (x, boxes) = (call.tensor(0, "features")?, call.tensor(1, "rois")?);
    let (high, wide) =
        (call.required_int(ATTRIBUTE, "pooled_height")?, call.required_int(ATTRIBUTE, "pooled_width")?);
    let (scale, samples) =
        (call.float_or(ATTRIBUTE, "spatial_scale", 1.0)?, call.int_or(ATTRIBUTE, "sample_num", 2)?);
    let shifts = call.int_or(ATTRIBUTE, "roi_end_mode", 1)? == 1;
    if samples <= 0 {
        return super::opaque::lower(call);
    }
    let dtype = call.emit.dtype(x);
    let x = call.emit.cast(x, DType::F32)?;
    let x = call.emit.transpose(x, vec![0, 2, 3, 1])?;
    let dims = call.emit.dims(x)?;
    let boxes = call.emit.cast(boxes, DType::F32)?;
    let c = columns(call, boxes, 5)?;
    let count = call.emit.dims(boxes)?[0].clone();
    let owner = call.emit.reshape(c[0], vec![count.clone()])?;
    let mut places = Vec::new();
    let mut valid = Vec::new();
    for (axis, [near, far], parts) in [(1, [c[2], c[4]], high), (2, [c[1], c[3]], wide)] {
        let at = sample_places(call, [near, far], parts.saturating_mul(samples), scale, shifts)?;
        let above = call.emit.with_scalar(Binary::GreaterEqual, at, -1.0)?;
        let extent = call.emit.dim(&dims[axis], DType::F32)?;
        let below = call.emit.binary(Binary::LessEqual, at, extent)?;
        valid.push(call.emit.binary(Binary::And, above, below)?);
        let at = call.emit.with_scalar(Binary::Maximum, at, 0.0)?;
        let last = call.emit.dim(&(&dims[axis] - &Dim::from(1)), DType::F32)?;
        places.push(call.emit.binary(Binary::Minimum, at, last)?);
    }
    let y = blended(call, x, owner, places[0], places[1])?;
    let inside = grid(call, Binary::And, valid[0], valid[1])?;
    let inside = super::index::rows(call, inside)?;
    let zero = call.emit.scalar(0.0, DType::F32)?;
    let y = call.emit.select(inside, y, zero)?;
    let each = Dim::from(samples);
    let parts = vec![count, Dim::from(high), each.clone(), Dim::from(wide), each, dims[3].clone()];
    let y = call.emit.reshape(y, parts)?;
    let y = call.emit.reduce(ReduceKind::Mean, y, vec![2, 4], false)?;
    let y = call.emit.transpose(y, vec![0, 3, 1, 2])?;
    call.emit.cast(y, dtype).map(Item::Tensor)
}

/// `count` places in the middle of equal parts between two ends, in pixels of the features. The far end lies one pixel
/// further if `shifts`; else no box is narrower than one pixel of the features.
fn sample_places(
    call: &mut Call,
    [near, far]: [ValueId; 2],
    count: i64,
    scale: f64,
    shifts: bool,
) -> Result<ValueId> {
    let far = if shifts { call.emit.with_scalar(Binary::Add, far, 1.0)? } else { far };
    let (near, far) =
        (call.emit.with_scalar(Binary::Mul, near, scale)?, call.emit.with_scalar(Binary::Mul, far, scale)?);
    let length = call.emit.binary(Binary::Sub, far, near)?;
    let length = if shifts { length } else { call.emit.with_scalar(Binary::Maximum, length, 1.0)? };
    let step = call.emit.with_scalar(Binary::Div, length, count as f64)?;
    let counter = super::create::counter(call, Dim::from(count))?;
    let counter = call.emit.cast(counter, DType::F32)?;
    let middle = call.emit.with_scalar(Binary::Add, counter, 0.5)?;
    let along = call.emit.binary(Binary::Mul, step, middle)?;
    call.emit.binary(Binary::Add, near, along)
}
