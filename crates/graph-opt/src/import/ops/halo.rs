//! Halo exchange: ranks that hold neighbouring parts of an image give each other rows and columns at the borders.

use mslite_collective::CollectiveKind;
use mslite_tensor::{Dim, Shape, TensorSpec};

use super::collective::collective;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::whole;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::Op;

/// Where a neighbour lies: above (-1) or below (1), left (-1) or right (1), in MindSpore's order.
const DIRECTIONS: [[i8; 2]; 8] = [[-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-1, -1]];

/// The order in which neighbours are served: that of their places in the image, so that no ranks wait for each other in
/// a circle. Those before this rank give first, those behind it take first.
const ORDER: [usize; 8] = [7, 0, 1, 6, 2, 5, 4, 3];

/// `(x)` of NCHW: gives borders away, and gets `x` with those of the neighbours around it.
pub(in crate::import) fn neighbor_exchange_v2(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let sides = |call: &mut Call, ranks: &str, lens: &str| -> Result<(Vec<i64>, Vec<i64>)> {
        let (ranks, lens) = (call.required_ints(ATTRIBUTE, ranks)?, call.required_ints(ATTRIBUTE, lens)?);
        match (ranks.len(), lens.len()) {
            (8, 4) => Ok((ranks, lens)),
            _ => Err(call.invalid("it needs 8 ranks and 4 lengths")),
        }
    };
    let (send_to, send_lens) = sides(call, "send_rank_ids", "send_lens")?;
    let (receive_from, receive_lens) = sides(call, "recv_rank_ids", "recv_lens")?;
    if call.emit.rank(x)? != 4 {
        return Err(call.invalid("its operand must have rank 4 (NCHW)"));
    }
    let mut received = [None; 8];
    for at in ORDER {
        let is_before = ORDER.iter().position(|&o| o == at).is_some_and(|place| place < 4);
        for receives in [is_before, !is_before] {
            match receives {
                true => received[at] = receive(call, x, at, receive_from[at], &receive_lens)?,
                false => send(call, x, at, send_to[at], &send_lens)?,
            }
        }
    }
    let [top, top_right, right, bottom_right, bottom, bottom_left, left, top_left] = received;
    let mut rows = Vec::new();
    for row in [[top_left, top, top_right], [left, Some(x), right], [bottom_left, bottom, bottom_right]] {
        let parts: Vec<ValueId> = row.into_iter().flatten().collect();
        if !parts.is_empty() {
            rows.push(call.emit.concat(&parts, 3)?);
        }
    }
    call.emit.concat(&rows, 2).map(Item::Tensor)
}

/// Elements along height and width of what goes to, or comes from, a direction; `lens` are those of the borders
/// above, below, left and right.
fn extents(dims: &[Dim], at: usize, lens: &[i64]) -> [Dim; 2] {
    let [vertical, horizontal] = DIRECTIONS[at];
    let along = |sign: i8, before: i64, behind: i64, all: &Dim| match sign {
        -1 => Dim::from(before),
        1 => Dim::from(behind),
        _ => all.clone(),
    };
    [along(vertical, lens[0], lens[1], &dims[2]), along(horizontal, lens[2], lens[3], &dims[3])]
}

fn send(call: &mut Call, x: ValueId, at: usize, to: i64, lens: &[i64]) -> Result<()> {
    let Ok(dest) = usize::try_from(to) else { return Ok(()) };
    let dims = call.emit.dims(x)?;
    let sizes = extents(&dims, at, lens);
    let mut slice = whole(dims.clone());
    for (axis, (size, sign)) in sizes.into_iter().zip(DIRECTIONS[at]).enumerate() {
        if sign == 1 {
            slice.starts[2 + axis] = &dims[2 + axis] - &size;
        }
        slice.sizes[2 + axis] = size;
    }
    let border = call.emit.slice(x, slice)?;
    let op = collective(call, CollectiveKind::Send { dest, tag: at as i64 }, None)?;
    call.emit.push(Op::Collective(op), &[border])?;
    Ok(())
}

fn receive(call: &mut Call, x: ValueId, at: usize, from: i64, lens: &[i64]) -> Result<Option<ValueId>> {
    let Ok(src) = usize::try_from(from) else { return Ok(None) };
    let mut dims = call.emit.dims(x)?;
    let [height, width] = extents(&dims, at, lens);
    (dims[2], dims[3]) = (height, width);
    let spec = TensorSpec::new(call.emit.dtype(x), Shape::ranked(dims));
    // The tag says in which direction the message travels.
    let tag = (at as i64 + 4) % 8;
    let op = collective(call, CollectiveKind::Receive { src, tag }, Some(spec))?;
    call.emit.op(Op::Collective(op), &[]).map(Some)
}
