//! Random numbers from the engines of the C++ standard library, drawn as that of GCC does.

use mslite_graph_opt::ir::op::{Distribution, Random};
use mslite_runtime::{Error, ErrorKind, Result};

use super::{BoxKernel, Kernel};
use crate::arena::Args;

pub(super) fn build(op: &Random) -> BoxKernel {
    match op.distribution {
        Distribution::Normal => Box::new(Normal),
        Distribution::Uniform => Box::new(Uniform),
        Distribution::FineUniform => Box::new(FineUniform),
        _ => Box::new(Integers),
    }
}

/// `minstd_rand0`
struct Minstd(u32);

impl Minstd {
    const MODULUS: u64 = 2_147_483_647;

    fn next(&mut self) -> u32 {
        self.0 = (u64::from(self.0) * 16807 % Self::MODULUS) as u32;
        self.0
    }

    /// From 0 to before 1.
    fn uniform(&mut self) -> f32 {
        let value = self.next().wrapping_sub(1) as f32 / (Self::MODULUS - 1) as f32;
        if value < 1.0 { value } else { 1.0f32.next_down() }
    }
}

/// `mt19937`: 624 words, and the position in them.
struct Mersenne<'a>(&'a mut [u32]);

impl Mersenne<'_> {
    const WORDS: usize = 624;

    fn next(&mut self) -> u32 {
        if self.0[Self::WORDS] as usize >= Self::WORDS {
            self.renew();
            self.0[Self::WORDS] = 0;
        }
        let mut word = self.0[self.0[Self::WORDS] as usize];
        self.0[Self::WORDS] += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9D2C_5680;
        word ^= word << 15 & 0xEFC6_0000;
        word ^ word >> 18
    }

    fn renew(&mut self) {
        for i in 0..Self::WORDS {
            let (next, far) = (self.0[(i + 1) % Self::WORDS], self.0[(i + 397) % Self::WORDS]);
            let both = self.0[i] & 0x8000_0000 | next & 0x7FFF_FFFF;
            self.0[i] = far ^ both >> 1 ^ if both & 1 == 1 { 0x9908_B0DF } else { 0 };
        }
    }

    /// From 0 to before 1, of two words.
    fn uniform(&mut self) -> f64 {
        const WORD: f64 = 4_294_967_296.0;
        let low = f64::from(self.next());
        let value = (low + f64::from(self.next()) * WORD) / (WORD * WORD);
        if value < 1.0 { value } else { 1.0f64.next_down() }
    }

    /// From 0 to `most`.
    fn below_or_at(&mut self, most: u32) -> u32 {
        let Some(count) = most.checked_add(1) else { return self.next() };
        let scale = u32::MAX / count;
        loop {
            let word = self.next();
            if word < count * scale {
                return word / scale;
            }
        }
    }
}

/// The state after the run, which begins as a copy of that before.
fn next_state<'a>(args: &mut Args<'a>) -> &'a mut [u32] {
    let (from, to) = (args.input::<u32>(0), args.output::<u32>(1));
    to.copy_from_slice(from);
    to
}

#[derive(Debug)]
struct Normal;

impl Kernel for Normal {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let state = next_state(args);
        let mut engine = Minstd(state[0].max(1));
        for pair in args.output::<f32>(0).chunks_mut(2) {
            let (x, y, square) = loop {
                let (x, y) = (2.0 * engine.uniform() - 1.0, 2.0 * engine.uniform() - 1.0);
                let square = x * x + y * y;
                if square <= 1.0 && square != 0.0 {
                    break (x, y, square);
                }
            };
            let scale = (-2.0 * square.ln() / square).sqrt();
            for (value, place) in pair.iter_mut().zip([y, x]) {
                *value = place * scale;
            }
        }
        state[0] = engine.0;
        Ok(())
    }
}

#[derive(Debug)]
struct Uniform;

impl Kernel for Uniform {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let state = next_state(args);
        let mut engine = Minstd(state[0].max(1));
        args.output::<f32>(0).fill_with(|| engine.uniform());
        state[0] = engine.0;
        Ok(())
    }
}

#[derive(Debug)]
struct FineUniform;

impl Kernel for FineUniform {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let mut engine = Mersenne(next_state(args));
        args.output::<f32>(0).fill_with(|| engine.uniform() as f32);
        Ok(())
    }
}

#[derive(Debug)]
struct Integers;

impl Kernel for Integers {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let (low, high) = (args.input::<i32>(1)[0], args.input::<i32>(2)[0]);
        if low >= high {
            let reason = format!("there are no integers from {low} to before {high}");
            return Err(Error::new(ErrorKind::InvalidArgument, reason));
        }
        let most = high.abs_diff(low) - 1;
        let mut engine = Mersenne(next_state(args));
        args.output::<i32>(0).fill_with(|| low.wrapping_add_unsigned(engine.below_or_at(most)));
        Ok(())
    }
}
