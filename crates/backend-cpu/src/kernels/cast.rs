use std::marker::PhantomData;

use mslite_runtime::Result;
use mslite_tensor::DType;

use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::scalar::{CHUNK, Scalar, Wide, with_type};

pub(super) fn build(cx: &Build<'_>) -> Option<BoxKernel> {
    let (from_type, to) = (cx.inputs[0].dtype, cx.outputs[0].dtype);
    if from_type.is_complex() || to.is_complex() {
        return super::complex::cast(from_type, to);
    }
    with_type!(from_type, T in real => from::<T>(to)).flatten()
}

fn from<T: Scalar>(to: DType) -> Option<BoxKernel> {
    with_type!(to, R in real => Box::new(Cast::<T, R> { narrow: narrow::<T::Wide, R>, from: PhantomData }) as BoxKernel)
}

/// Converts through the wide type, so that there is code for each type and each wide type, not for each pair.
#[derive(Debug)]
struct Cast<T: Scalar, R> {
    narrow: fn(&[T::Wide], &mut [R]),
    from: PhantomData<T>,
}

impl<T: Scalar, R: Scalar> Kernel for Cast<T, R> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<R>(0);
        args.team.split(y, CHUNK, |at, part| {
            let mut wide = [T::Wide::default(); CHUNK];
            for (x, y) in x[at..].chunks(CHUNK).zip(part.chunks_mut(CHUNK)) {
                let x = &x[..y.len()];
                widen(x, &mut wide[..x.len()]);
                (self.narrow)(&wide[..x.len()], y);
            }
        });
        Ok(())
    }
}

fn widen<T: Scalar>(x: &[T], wide: &mut [T::Wide]) {
    for (wide, x) in wide.iter_mut().zip(x) {
        *wide = x.widen();
    }
}

fn narrow<W: Wide, R: Scalar>(wide: &[W], y: &mut [R]) {
    for (y, &wide) in y.iter_mut().zip(wide) {
        *y = R::narrow(wide);
    }
}
