//! Writes a network of two dense layers, and the slices of it for tensor parallelism, as MindIR.
//!
//! ```text
//! cargo run -p mslite-examples --example mlp_slices -- FOLDER [RANKS [WIDTH HIDDEN]]
//! mslite bench model FOLDER/mlp.mindir,threads=2 FOLDER/mlp{rank}of2.mindir,ranks=2,threads=1 --shapes 32,1024
//! ```
//! The network is `GeLU(x W1 + b1) W2 + b2` on `x[batch, WIDTH]`, with HIDDEN columns of `W1`; how large a batch is, is
//! left open. A slice has some columns of `W1` and the same rows of `W2`, so that products need to be added up once.
#![allow(clippy::print_stdout, reason = "a program prints")]

use std::ops::Range;
use std::path::Path;

use mslite_mindir::{
    Attributes, DataType, Model, ModelBuilder, Primitive, PrimitiveKind, SaveOptions, TensorType, Type, Value,
};
use mslite_tensor::Tensor;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let Some(folder) = arguments.first() else {
        return Err("which folder? The arguments are FOLDER [RANKS [WIDTH HIDDEN]]".into());
    };
    let (ranks, net) = (number(1, 2)?, Mlp { width: number(2, 1024)?, hidden: number(3, 4096)? });
    if ranks == 0 || !net.hidden.is_multiple_of(ranks) {
        return Err(format!("{} columns are not to be divided among {ranks} ranks", net.hidden).into());
    }
    write(Path::new(folder), ranks, net)
}

fn write(folder: &Path, ranks: usize, net: Mlp) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let save = |model: Model, name: &str| -> Result<()> {
        println!("{}", model.clone().save(folder.join(name), &SaveOptions::new())?.graph.display());
        Ok(())
    };
    save(net.slice(0..net.hidden)?, "mlp.mindir")?;
    let share = net.hidden / ranks;
    for rank in 0..ranks {
        save(net.slice(rank * share..(rank + 1) * share)?, &format!("mlp{rank}of{ranks}.mindir"))?;
    }
    Ok(())
}

/// Extents of the network.
#[derive(Debug, Clone, Copy)]
struct Mlp {
    width: usize,
    hidden: usize,
}

impl Mlp {
    /// The part of the network that has these of the hidden columns; all of them are the whole.
    fn slice(self, columns: Range<usize>) -> Result<Model> {
        let Mlp { width, hidden } = self;
        let w1 = weights(0..width, columns.clone(), 1)?;
        let w2 = weights(columns.clone(), 0..width, 2)?;
        let b1 =
            Tensor::from_vec(columns.clone().map(|column| value(0, column, 3)).collect(), &[columns.len()])?;
        let b2 = Tensor::from_vec((0..width).map(|column| value(0, column, 4)).collect(), &[width])?;

        let rows = Type::Tensor(TensorType::new(DataType::Float32, vec![-1, i64::try_from(width)?]));
        let mut builder = ModelBuilder::new("mlp");
        let mut graph = builder.entry();
        let x = graph.input("x", rows.clone());
        let [w1, b1, w2, b2] = [("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)]
            .map(|(name, value)| graph.parameter(name, value));
        let no = graph.constant(false);
        let h = graph.apply(&plain("MatMul"), &[x, w1, no.clone(), no.clone()], None);
        let h = graph.apply(&plain("Add"), &[h, b1], None);
        let h = graph.apply(&plain("GeLU"), &[h], None);
        let mut y = graph.apply(&plain("MatMul"), &[h, w2, no.clone(), no], None);
        if columns.len() < hidden {
            y = graph.apply(&all_reduce(), &[y], None);
        }
        let y = graph.apply(&plain("Add"), &[y, b2], None);
        graph.output(&y, Some(rows));
        Ok(builder.finish()?)
    }
}

fn plain(operator: &str) -> Primitive {
    Primitive::new(operator, PrimitiveKind::Function, Attributes::new(operator, []))
}

fn all_reduce() -> Primitive {
    let attributes = [("op", "sum"), ("group", "hccl_world_group")];
    let attributes = attributes.map(|(name, value)| (name.into(), Value::from(value)));
    Primitive::new("AllReduce", PrimitiveKind::Attribute, Attributes::new("AllReduce", attributes))
}

/// A part of a matrix of weights.
fn weights(rows: Range<usize>, columns: Range<usize>, which: usize) -> Result<Tensor> {
    let values = rows.clone().flat_map(|row| columns.clone().map(move |column| value(row, column, which)));
    Ok(Tensor::from_vec(values.collect(), &[rows.len(), columns.len()])?)
}

/// A number from -1/32 to 1/32 that depends on where it stands in the whole network.
fn value(row: usize, column: usize, which: usize) -> f32 {
    let mixed =
        (row as u32).wrapping_mul(0x9e37_79b1) ^ (column as u32).wrapping_mul(0x85eb_ca77) ^ which as u32;
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
    ((mixed >> 8) as f32 / (1 << 23) as f32 - 1.0) / 32.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use mslite::{Context, ModelType, Ranks, World};
    use ndarray::ArrayD;

    use super::*;

    const NET: Mlp = Mlp { width: 24, hidden: 36 };
    const BATCH: usize = 5;

    fn x(row: usize, column: usize) -> f32 {
        32.0 * value(row, column, 5)
    }

    fn run(path: &Path, ranks: Ranks) -> Vec<f32> {
        let mut context = Context::new();
        context.cpu.thread_num = 1;
        context.ranks = ranks;
        let model = mslite::Model::build_from_file(path, ModelType::MindIr, &context).unwrap();
        let mut inputs = model.inputs();
        let data = ArrayD::from_shape_fn(vec![BATCH, NET.width], |at| x(at[0], at[1]));
        model.resize(&mut inputs, &[&[BATCH, NET.width]]).unwrap();
        inputs[0].set_data(data).unwrap();
        model.predict(&inputs).unwrap()[0].view::<f32>().unwrap().iter().copied().collect()
    }

    /// The formula, in f64.
    fn expected(row: usize, column: usize) -> f64 {
        let gelu = |v: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v.powi(3));
            0.5 * v * (1.0 + inner.tanh())
        };
        let v = |row, column, which| f64::from(value(row, column, which));
        let hidden = |at: usize| {
            let sum: f64 = (0..NET.width).map(|k| f64::from(x(row, k)) * v(k, at, 1)).sum();
            gelu(sum + v(0, at, 3))
        };
        (0..NET.hidden).map(|at| hidden(at) * v(at, column, 2)).sum::<f64>() + v(0, column, 4)
    }

    #[test]
    fn slices_and_the_whole_give_what_the_formula_says() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 3, NET).unwrap();
        let mut outputs = vec![run(&folder.path().join("mlp.mindir"), Ranks::Alone)];
        let worlds = World::threads(3, Duration::from_secs(60)).unwrap();
        std::thread::scope(|scope| {
            let start = |world: World| {
                let path = folder.path().join(format!("mlp{}of3.mindir", world.rank()));
                scope.spawn(move || run(&path, Ranks::World(Arc::new(world))))
            };
            let ranks: Vec<_> = worlds.into_iter().map(start).collect();
            outputs.extend(ranks.into_iter().map(|rank| rank.join().unwrap()));
        });
        for output in outputs {
            assert_eq!(output.len(), BATCH * NET.width);
            for (i, y) in output.into_iter().enumerate() {
                let expected = expected(i / NET.width, i % NET.width);
                assert!((f64::from(y) - expected).abs() < 1e-5, "element {i}: {y}, not {expected}");
            }
        }
    }
}
