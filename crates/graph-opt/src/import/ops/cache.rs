//! Caches of keys and values: in blocks, `[blocks, places, heads, width]`, or per batch entry, `[batch, heads, length,
//! width]`.

use mslite_tensor::{DType, Dim};

use super::attention::{Heads, Options, attention};
use super::create::counter;
use super::opaque;
use crate::Result;
use crate::import::call::Call;
use crate::import::emit::product;
use crate::import::item::Item;
use crate::import::table::Written;
use crate::ir::ValueId;
use crate::ir::op::{ArgReduce, Binary, Gather, Op, ScatterKind};

const ROWS: Op = Op::Gather(Gather { axis: 0, batch_dims: 0 });

/// `(query [batch, 1, heads * width], key_cache, value_cache, block_tables [batch, blocks], context_lens [batch], ...,
/// head_num, scale_value, kv_head_num)`: attention of one new place of each batch entry to what its blocks hold.
pub(in crate::import) fn paged_attention(call: &mut Call) -> Result<Item> {
    let options = (5..10).any(|position| call.arg(position, "").is_some());
    let query = call.tensor(0, "query")?;
    let (keys, values) = (call.tensor(1, "key_cache")?, call.tensor_opt(2, "value_cache")?);
    let (tables, lengths) = (call.tensor_opt(3, "block_tables")?, call.tensor_opt(4, "context_lens")?);
    let (Some(values), Some(tables), Some(lengths), false) = (values, tables, lengths, options) else {
        return opaque::lower(call);
    };
    let heads = call.required_int(10, "head_num")?;
    let scale = call.float_or(11, "scale_value", 1.0)?;
    let (own, cache) = (call.emit.dims(query)?, call.emit.dims(keys)?);
    let [_, _, _, width] = &cache[..] else { return Err(call.invalid("the cache must have rank 4")) };
    let batch = call.emit.dims(tables)?[0].clone();
    let one_place = &batch * &(&Dim::from(heads) * width);
    match (product(&own).as_fixed(), one_place.as_fixed()) {
        (Some(all), Some(one)) if one == 0 || all % one != 0 => {
            return Err(call.invalid("head_num times the width of the cache is not the width of the query"));
        }
        (Some(all), Some(one)) if all != one => {
            return Err(call.unsupported("more than one new place for each batch entry is not known"));
        }
        _ => {}
    }
    let q = call.emit.reshape(query, vec![batch.clone(), Dim::from(heads), Dim::from(1), width.clone()])?;
    let (k, v) = (gathered(call, keys, tables)?, gathered(call, values, tables)?);
    let columns = call.emit.dims(k)?[2].clone();
    let mask = beyond(call, lengths, &batch, columns)?;
    let heads = Heads { q, k, v, layout: 1 };
    let y = attention(call, &heads, &Options { shift: None, mask: Some(mask), scale })?;
    call.emit.reshape(y, own).map(Item::Tensor)
}

/// What the blocks of each batch entry hold: `[batch, heads, blocks * places, width]`. Blocks that are not there have
/// negative numbers.
fn gathered(call: &mut Call, cache: ValueId, tables: ValueId) -> Result<ValueId> {
    let zero = call.emit.int_scalar(0, call.emit.dtype(tables))?;
    let tables = call.emit.binary(Binary::Maximum, tables, zero)?;
    let blocks = call.emit.op(ROWS, &[cache, tables])?;
    let dims = call.emit.dims(blocks)?;
    let [batch, blocks_each, places, heads, width] = &dims[..] else {
        return Err(call.invalid("block_tables must have rank 2"));
    };
    let joined = vec![batch.clone(), blocks_each * places, heads.clone(), width.clone()];
    let joined = call.emit.reshape(blocks, joined)?;
    call.emit.transpose(joined, vec![0, 2, 1, 3])
}

/// True from each batch entry's length on: `[batch, 1, 1, columns]`.
pub(super) fn beyond(call: &mut Call, lengths: ValueId, batch: &Dim, columns: Dim) -> Result<ValueId> {
    let places = counter(call, columns)?;
    let lengths = call.emit.cast(lengths, DType::I64)?;
    let one = Dim::from(1);
    let lengths = call.emit.reshape(lengths, vec![batch.clone(), one.clone(), one.clone(), one])?;
    call.emit.binary(Binary::GreaterEqual, places, lengths)
}

/// `(key, value, key_cache, value_cache, slot_mapping)`: what both caches hold with the rows of key and value in the
/// slots. Rows of negative slots are left out.
pub(in crate::import) fn reshape_and_cache(call: &mut Call) -> Result<Written> {
    let slots = call.tensor(4, "slot_mapping")?;
    let slots = super::scatter::flattened(call, slots)?;
    let slots = call.emit.cast(slots, DType::I64)?;
    let mut held = [slots; 2];
    for (i, (rows, cache)) in [("key", "key_cache"), ("value", "value_cache")].into_iter().enumerate() {
        let (rows, cache) = (call.tensor(i, rows)?, call.tensor(2 + i, cache)?);
        held[i] = stored(call, rows, cache, slots)?;
    }
    Ok((Item::Tensor(held[0]), held.to_vec()))
}

fn stored(call: &mut Call, rows: ValueId, cache: ValueId, slots: ValueId) -> Result<ValueId> {
    let dims = call.emit.dims(cache)?;
    let [blocks, places, heads, width] = &dims[..] else {
        return Err(call.invalid("a cache must have rank 4"));
    };
    let row = heads * width;
    let flat = call.emit.reshape(cache, vec![blocks * places, row.clone()])?;
    let count = call.emit.dims(slots)?[0].clone();
    let rows = call.emit.cast(rows, call.emit.dtype(cache))?;
    let rows = call.emit.reshape(rows, vec![count, row])?;
    // A row that is left out repeats the write of the one with the highest slot; if there is none, slot 0 keeps
    // what it holds.
    let op = ArgReduce { largest: true, axis: 0, keep_dims: true, dtype: DType::I64 };
    let best = call.emit.op(Op::ArgReduce(op), &[slots])?;
    let zero = call.emit.int_scalar(0, DType::I64)?;
    let slot = call.emit.op(ROWS, &[slots, best])?;
    let is_none = call.emit.binary(Binary::Less, slot, zero)?;
    let slot = call.emit.binary(Binary::Maximum, slot, zero)?;
    let (first, other) = (call.emit.op(ROWS, &[flat, slot])?, call.emit.op(ROWS, &[rows, best])?);
    let is_none = super::index::rows(call, is_none)?;
    let instead = call.emit.select(is_none, first, other)?;
    let is_out = call.emit.binary(Binary::Less, slots, zero)?;
    let slots = call.emit.select(is_out, slot, slots)?;
    let is_out = super::index::rows(call, is_out)?;
    let rows = call.emit.select(is_out, instead, rows)?;
    let slots = super::index::rows(call, slots)?;
    let held = call.emit.op(Op::ScatterNd(ScatterKind::Update), &[flat, slots, rows])?;
    call.emit.reshape(held, dims)
}

/// `(cache [batch, heads, length, width], start [batch], new [batch, heads, n, width], axis=-2)`: n places of each batch
/// entry from its start on.
pub(in crate::import) fn scatter_update(call: &mut Call) -> Result<ValueId> {
    let (cache, start) = (call.tensor(0, "var")?, call.tensor(1, "indices")?);
    let new = call.tensor(2, "updates")?;
    let axis = call.axis(3, "axis", -2, 4)?;
    let dims = call.emit.dims(new)?;
    let [batch, heads, _, _] = &dims[..] else { return Err(call.invalid("updates must have rank 4")) };
    if axis < 2 {
        return Err(call.unsupported("axis must be one of the last two"));
    }
    let swap = |call: &mut Call, x: ValueId| match axis {
        3 => call.emit.transpose(x, vec![0, 1, 3, 2]),
        _ => Ok(x),
    };
    let (held, new) = (swap(call, cache)?, swap(call, new)?);
    let places = call.emit.dims(new)?[2].clone();
    let full = [batch.clone(), heads.clone(), places.clone(), Dim::from(1)];
    let mut pointers = Vec::new();
    for (i, extent) in [batch, heads, &places].into_iter().enumerate() {
        let mut shape = vec![Dim::from(1); 4];
        shape[i] = extent.clone();
        let mut along = counter(call, extent.clone())?;
        along = call.emit.reshape(along, shape)?;
        if i == 2 {
            let start = call.emit.cast(start, DType::I64)?;
            let one = Dim::from(1);
            let start = call.emit.reshape(start, vec![batch.clone(), one.clone(), one.clone(), one])?;
            along = call.emit.binary(Binary::Add, along, start)?;
        }
        pointers.push(call.emit.broadcast(along, full.to_vec())?);
    }
    let pointers = call.emit.concat(&pointers, 3)?;
    let held = call.emit.op(Op::ScatterNd(ScatterKind::Update), &[held, pointers, new])?;
    swap(call, held)
}
