use std::marker::PhantomData;

use mslite_runtime::Result;
use mslite_tensor::DType;

use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::scalar::{CHUNK, Scalar, Wide, with_type};

pub(super) fn build(cx: &Build<'_>) -> Option<BoxKernel> {
    let to = cx.outputs[0].dtype;
    match cx.inputs[0].dtype {
        DType::C64 => return real_part::<f32>(to),
        DType::C128 => return real_part::<f64>(to),
        _ => {}
    }
    with_type!(cx.inputs[0].dtype, T in real => from::<T>(to)).flatten()
}

fn from<T: Scalar>(to: DType) -> Option<BoxKernel> {
    with_type!(to, R in real => Box::new(Cast::<T, R> { narrow: narrow::<T::Wide, R>, from: PhantomData }) as BoxKernel)
}

fn real_part<T: Scalar>(to: DType) -> Option<BoxKernel> {
    with_type!(to, R in number => {
        Box::new(RealPart::<T, R> { narrow: narrow::<T::Wide, R>, from: PhantomData }) as BoxKernel
    })
}

/// Converts the first of two numbers.
#[derive(Debug)]
struct RealPart<T: Scalar, R> {
    narrow: fn(&[T::Wide], &mut [R]),
    from: PhantomData<T>,
}

impl<T: Scalar, R: Scalar> Kernel for RealPart<T, R> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<[T; 2]>(0);
        for (x, y) in x.iter().zip(args.output::<R>(0)) {
            (self.narrow)(&[x[0].widen()], std::slice::from_mut(y));
        }
        Ok(())
    }
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
