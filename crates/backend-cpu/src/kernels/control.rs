use std::sync::{Mutex, PoisonError};

use mslite_graph_opt::ir::op::{If, Loop};
use mslite_runtime::{Error, ErrorKind, Result};
use mslite_tensor::{Buffer, HostBuffer, Tensor};
use smallvec::SmallVec;

use super::{BoxKernel, Build, Kernel, Type};
use crate::arena::Args;
use crate::crew::Team;
use crate::execution::Caller;

/// Buffers of one run of a graph inside a kernel.
type Buffers = SmallVec<[HostBuffer; 8]>;

pub(super) fn branch(branch: &If, cx: &Build<'_>) -> Result<BoxKernel> {
    let (then, otherwise) = cx.inputs[1..].split_at(branch.then.inputs().len());
    let kernel = Branch {
        then: Mutex::new(body(cx, 0, then)?),
        otherwise: Mutex::new(body(cx, 1, otherwise)?),
        inputs: cx.inputs[1..].to_vec(),
        split: then.len(),
        outputs: cx.outputs.to_vec(),
    };
    Ok(Box::new(kernel))
}

pub(super) fn turns(turns: &Loop, cx: &Build<'_>) -> Result<BoxKernel> {
    let carried = || -> Result<Vec<Tensor>> {
        let types = cx.inputs[..turns.carried].iter();
        Ok(types.map(|t| Tensor::zeros(t.dtype, &t.dims)).collect::<Result<_, _>>()?)
    };
    let state = Turns {
        body: body(cx, 0, cx.inputs)?,
        current: carried()?,
        next: carried()?,
        again: Tensor::scalar(false),
    };
    let kernel = Repeat {
        state: Mutex::new(state),
        inputs: cx.inputs.to_vec(),
        outputs: cx.outputs.to_vec(),
        carried: turns.carried,
    };
    Ok(Box::new(kernel))
}

/// A graph inside the operation, ready to run on operands of these types.
fn body(cx: &Build<'_>, index: usize, inputs: &[Type]) -> Result<Caller> {
    let compiled = cx.bodies.get(index).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "operations with graphs inside are not evaluated by themselves")
    })?;
    let mut body = compiled.caller(cx.groups, cx.bindings.clone());
    body.prepare(inputs.iter().map(|t| &t.dims[..]))?;
    Ok(body)
}

#[derive(Debug)]
struct Branch {
    then: Mutex<Caller>,
    otherwise: Mutex<Caller>,
    /// Types of the operands behind the condition.
    inputs: Vec<Type>,
    /// Number of those that belong to `then`.
    split: usize,
    outputs: Vec<Type>,
}

impl Kernel for Branch {
    fn scratch(&self, _threads: usize) -> usize {
        let arena = |body: &Mutex<Caller>| body.lock().unwrap_or_else(PoisonError::into_inner).scratch();
        arena(&self.then).max(arena(&self.otherwise))
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let (body, range) = match args.input::<u8>(0)[0] {
            0 => (&self.otherwise, self.split..self.inputs.len()),
            _ => (&self.then, 0..self.split),
        };
        let inputs: Buffers =
            range.map(|i| args.input_buffer(1 + i, self.inputs[i].dtype, &self.inputs[i].dims)).collect();
        let outputs = outputs(args, &self.outputs);
        let mut body = body.lock().unwrap_or_else(PoisonError::into_inner);
        body.run_within(args.scratch(), &borrowed(&inputs), &borrowed(&outputs), args.team)
    }
}

#[derive(Debug)]
struct Repeat {
    state: Mutex<Turns>,
    inputs: Vec<Type>,
    outputs: Vec<Type>,
    carried: usize,
}

#[derive(Debug)]
struct Turns {
    body: Caller,
    /// What is carried into this turn, except the first.
    current: Vec<Tensor>,
    /// What is carried out of it.
    next: Vec<Tensor>,
    again: Tensor,
}

impl Kernel for Repeat {
    fn scratch(&self, _threads: usize) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).body.scratch()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let mut others: Buffers =
            self.inputs.iter().enumerate().map(|(i, t)| args.input_buffer(i, t.dtype, &t.dims)).collect();
        let mut carried: Buffers = others.drain(..self.carried).collect();
        let results = outputs(args, &self.outputs);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = args.scratch();
        while state.turn(arena, &carried, &others, &results, args.team)? {
            carried = state.current.iter().map(HostBuffer::reading).collect();
        }
        Ok(())
    }
}

impl Turns {
    /// Runs the body once; whether it is to run again.
    fn turn(
        &mut self,
        arena: &mut [u8],
        carried: &[HostBuffer],
        others: &[HostBuffer],
        results: &[HostBuffer],
        team: &Team<'_>,
    ) -> Result<bool> {
        let mut outputs = Buffers::new();
        outputs.push(HostBuffer::writing(&mut self.again)?);
        for tensor in &mut self.next {
            outputs.push(HostBuffer::writing(tensor)?);
        }
        let inputs: SmallVec<[&dyn Buffer; 16]> = carried.iter().chain(others).map(|b| b as _).collect();
        let outputs: SmallVec<[&dyn Buffer; 16]> = outputs.iter().chain(results).map(|b| b as _).collect();
        self.body.run_within(arena, &inputs, &outputs, team)?;
        std::mem::swap(&mut self.current, &mut self.next);
        Ok(self.again.bytes() != [0])
    }
}

fn outputs(args: &mut Args<'_>, types: &[Type]) -> Buffers {
    types.iter().enumerate().map(|(i, t)| args.output_buffer(i, t.dtype, &t.dims)).collect()
}

fn borrowed(buffers: &[HostBuffer]) -> SmallVec<[&dyn Buffer; 16]> {
    buffers.iter().map(|buffer| buffer as _).collect()
}
