use mslite_runtime::Result;

use super::copy::with_size;
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::loops::Loops;

pub(super) fn build(cx: &Build<'_>) -> Option<BoxKernel> {
    let [condition, x, y] = cx.inputs else { return None };
    let loops = Loops::broadcast(&cx.outputs[0].dims, [&condition.dims, &x.dims, &y.dims]);
    with_size!(x.dtype.size(), S => Box::new(Select::<S> { loops }) as BoxKernel)
}

/// Moves elements of `S` bytes.
#[derive(Debug)]
struct Select<const S: usize> {
    loops: Loops<3>,
}

impl<const S: usize> Kernel for Select<S> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let condition = args.input_bytes(0);
        let x = args.input_bytes(1).as_chunks::<S>().0;
        let y = args.input_bytes(2).as_chunks::<S>().0;
        let z = args.output_bytes(0).as_chunks_mut::<S>().0;
        let strides = self.loops.inner().strides.map(isize::cast_unsigned);
        args.team.split(z, 1, |at, part| {
            let mut done = 0;
            self.loops.rows(at..at + part.len(), |[c, i, j], count| {
                for (n, z) in part[done..done + count].iter_mut().enumerate() {
                    let holds = condition[c + n * strides[0]] != 0;
                    *z = if holds { x[i + n * strides[1]] } else { y[j + n * strides[2]] };
                }
                done += count;
            });
        });
        Ok(())
    }
}
