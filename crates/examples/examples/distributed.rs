//! MindSpore Lite's tutorial of distributed inference: every rank loads its slice, takes the same inputs, and
//! prints the same outputs.
//!
//! ```text
//! mslite launch --ranks 2 -- target/release/examples/distributed model
//! ```
//! runs `model0.mindir` at rank 0 and `model1.mindir` at rank 1.
#![allow(clippy::print_stdout, reason = "a program prints")]

use mslite::{Context, Model, ModelType, Result, Target};
use ndarray::ArrayD;

fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| mslite_examples::model("matmul_row_tp2").join("rank").display().to_string());

    let mut context = Context::new();
    context.target = vec![Target::Cpu];
    context.cpu.thread_num = 1;
    let rank = context.rank_id()?;
    let model = Model::build_from_file(format!("{path}{rank}.mindir"), ModelType::MindIr, &context)?;

    let mut inputs = model.inputs();
    for input in &mut inputs {
        let shape: Vec<usize> = input.shape().iter().filter_map(|&extent| extent.try_into().ok()).collect();
        input.set_data(ArrayD::<f32>::ones(shape))?;
    }
    let outputs = model.predict(&inputs)?;

    for output in outputs {
        let (name, size, elements) = (output.name(), output.data_size(), output.element_num());
        println!("tensor's name is:{name} data size is:{size} tensor elements num is:{elements}");
        let first: Vec<String> = output.view::<f32>()?.iter().take(10).map(f32::to_string).collect();
        println!("output data is: {}", first.join(" "));
    }
    Ok(())
}
