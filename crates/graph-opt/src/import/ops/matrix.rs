//! Matrices made of diagonals, and diagonals of matrices.

use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::Op;

/// A band of diagonals of matrices, stored as rows of the length of the longest.
struct Band {
    rows: i64,
    columns: i64,
    low: i64,
    high: i64,
    /// Whether diagonals above, and below, the main one stand at the right end of their rows.
    right: [bool; 2],
}

impl Band {
    /// How many elements a diagonal has.
    fn length(&self, diagonal: i64) -> i64 {
        (self.rows + diagonal.min(0)).min(self.columns - diagonal.max(0))
    }

    fn longest(&self) -> i64 {
        (self.low..=self.high).map(|d| self.length(d)).max().unwrap_or(0)
    }

    /// Where the first element of a diagonal stands in its row.
    fn start(&self, diagonal: i64) -> i64 {
        let at_right = if diagonal >= 0 { self.right[0] } else { self.right[1] };
        if at_right { self.longest() - self.length(diagonal) } else { 0 }
    }

    /// Where in the rows of diagonals the element of a row and column stands; -1 outside the band.
    fn place(&self, row: i64, column: i64) -> i64 {
        let diagonal = column - row;
        if !(self.low..=self.high).contains(&diagonal) {
            return -1;
        }
        let at = row.min(column) + self.start(diagonal);
        (self.high - diagonal) * self.longest() + at
    }

    /// Which element of the matrix stands at a place of a diagonal's row; -1 where it is filled up.
    fn element(&self, diagonal: i64, at: i64) -> i64 {
        let n = at - self.start(diagonal);
        if !(0..self.length(diagonal)).contains(&n) {
            return -1;
        }
        (n + (-diagonal).max(0)) * self.columns + n + diagonal.max(0)
    }
}

/// Most elements of a matrix.
const MAX_ELEMENTS: i64 = 1 << 22;

/// The band between the diagonals `k` of a matrix of these extents.
fn band(call: &mut Call, position: usize, rows: i64, columns: i64) -> Result<Option<Band>> {
    let Ok(k) = call.ints(position, "k") else { return Ok(None) };
    let k = k.unwrap_or(vec![0]);
    let align =
        call.choice(ATTRIBUTE, "align", &["RIGHT_LEFT", "LEFT_RIGHT", "LEFT_LEFT", "RIGHT_RIGHT"], 0)?;
    let right = [[true, false], [false, true], [false, false], [true, true]][align];
    let (low, high) = (k.first().copied().unwrap_or(0), k.last().copied().unwrap_or(0));
    let is_small = rows.saturating_mul(columns) <= MAX_ELEMENTS && rows > 0 && columns > 0;
    if !is_small || low > high || low <= -rows || high >= columns {
        return Ok(None);
    }
    Ok(Some(Band { rows, columns, low, high, right }))
}

/// Elements of the flattened last axes of `x` by number, `fill` where the number is negative.
fn taken(
    call: &mut Call,
    x: ValueId,
    count: usize,
    places: &[i64],
    fill: ValueId,
    tail: &[i64],
) -> Result<ValueId> {
    let dims = call.emit.dims(x)?;
    let lead = &dims[..dims.len() - count];
    let flat = [lead, &[crate::import::emit::product(&dims[dims.len() - count..])]].concat();
    let x = call.emit.reshape(x, flat)?;
    let inside = places.iter().map(|&n| n.max(0)).collect();
    let at = call.emit.ints(inside)?;
    let gather = crate::ir::op::Gather { axis: lead.len(), batch_dims: 0 };
    let y = call.emit.op(Op::Gather(gather), &[x, at])?;
    let missing = call.emit.ints(places.iter().map(|&n| i64::from(n < 0)).collect())?;
    let missing = call.emit.cast(missing, DType::Bool)?;
    let fill = call.emit.cast(fill, call.emit.dtype(y))?;
    let fill = call.emit.reshape(fill, Vec::new())?;
    let y = call.emit.select(missing, fill, y)?;
    let shape = [lead, &tail.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>()[..]].concat();
    call.emit.reshape(y, shape)
}

/// `(x [.., diagonals], k=0, num_rows, num_cols, padding_value)`; without the others, square matrices.
pub(in crate::import) fn from_diagonals(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let Some(longest) = dims.last().and_then(Dim::as_fixed) else { return opaque::lower(call) };
    let Ok(k) = call.ints(1, "k") else { return opaque::lower(call) };
    let k = k.unwrap_or(vec![0]);
    let (low, high) = (k.first().copied().unwrap_or(0), k.last().copied().unwrap_or(0));
    let (Ok(rows), Ok(columns)) = (call.int(2, "num_rows"), call.int(3, "num_cols")) else {
        return opaque::lower(call);
    };
    let (least_rows, least_columns) = (longest - high.min(0), longest + low.max(0));
    let given = |n: Option<i64>| n.filter(|&n| n > 0);
    let (rows, columns) = match (given(rows), given(columns)) {
        (Some(rows), Some(columns)) => (rows, columns),
        (Some(rows), None) => (rows, least_columns),
        (None, Some(columns)) => (least_rows, columns),
        (None, None) => (least_rows.max(least_columns), least_rows.max(least_columns)),
    };
    let Some(band) = band(call, 1, rows, columns)? else { return opaque::lower(call) };
    let fill = match call.tensor_opt(4, "padding_value")? {
        Some(fill) => fill,
        None => call.emit.scalar(0.0, call.emit.dtype(x))?,
    };
    let elements = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let places: Vec<i64> = elements.map(|(row, column)| band.place(row, column)).collect();
    let count = if band.low == band.high { 1 } else { 2 };
    taken(call, x, count, &places, fill, &[rows, columns]).map(Item::Tensor)
}

/// `(x [.., rows, columns], k=0, padding_value)`: diagonals, as rows where there are several.
pub(in crate::import) fn to_diagonals(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let Some([rows, columns]) = last_two(&dims) else { return opaque::lower(call) };
    let Some(band) = band(call, 1, rows, columns)? else { return opaque::lower(call) };
    let fill = match call.tensor_opt(2, "padding_value")? {
        Some(fill) => fill,
        None => call.emit.scalar(0.0, call.emit.dtype(x))?,
    };
    let longest = band.longest();
    let places: Vec<i64> = (band.low..=band.high)
        .rev()
        .flat_map(|d| (0..longest).map(move |at| (d, at)))
        .map(|(d, at)| band.element(d, at))
        .collect();
    let several = [band.high - band.low + 1, longest];
    let tail = if band.low == band.high { &several[1..] } else { &several[..] };
    taken(call, x, 2, &places, fill, tail).map(Item::Tensor)
}

/// `(x [.., rows, columns], diagonals, k=0)`: the matrices with other diagonals.
pub(in crate::import) fn with_diagonals(call: &mut Call) -> Result<Item> {
    let (x, diagonals) = (call.tensor(0, "x")?, call.tensor(1, "diagonal")?);
    let dims = call.emit.dims(x)?;
    let Some([rows, columns]) = last_two(&dims) else { return opaque::lower(call) };
    let Some(band) = band(call, 2, rows, columns)? else { return opaque::lower(call) };
    let elements = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let places: Vec<i64> = elements.map(|(row, column)| band.place(row, column)).collect();
    let inside = call.emit.ints(places.iter().map(|&n| i64::from(n >= 0)).collect())?;
    let inside = call.emit.cast(inside, DType::Bool)?;
    let inside = call.emit.reshape(inside, vec![Dim::from(rows), Dim::from(columns)])?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let count = if band.low == band.high { 1 } else { 2 };
    let y = taken(call, diagonals, count, &places, zero, &[rows, columns])?;
    call.emit.select(inside, y, x).map(Item::Tensor)
}

fn last_two(dims: &[Dim]) -> Option<[i64; 2]> {
    let [.., rows, columns] = dims else { return None };
    Some([rows.as_fixed()?, columns.as_fixed()?])
}

/// `(x [a.., a..])`: the elements whose first and last places are the same.
pub(in crate::import) fn diagonal_part(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let half = dims[..dims.len() / 2].to_vec();
    let side = crate::import::emit::product(&half);
    let x = call.emit.reshape(x, vec![side.clone(), side])?;
    call.args = vec![Item::Tensor(x)];
    let y = super::diagonal::diagonal(call)?;
    call.emit.reshape(y, half)
}

/// `(input, diagonal=0)`: a matrix with a vector on a diagonal, or a diagonal of a matrix.
pub(in crate::import) fn diagonal_ext(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let diagonal = call.int_or(1, "diagonal", 0)?;
    if call.emit.rank(x)? == 2 {
        call.args = vec![Item::Tensor(x), Item::Int(Dim::from(diagonal))];
        return super::diagonal::diagonal(call).map(Item::Tensor);
    }
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let Some(length) = call.emit.dims(x)?[0].as_fixed() else { return opaque::lower(call) };
    let side = Item::Int(Dim::from(length.saturating_add(diagonal.saturating_abs())));
    call.args = vec![Item::Tensor(x), Item::Int(Dim::from(diagonal)), side.clone(), side, Item::Tensor(zero)];
    from_diagonals(call)
}
