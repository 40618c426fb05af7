//! The fuzz targets for half a minute of processor time in all, on changed seeds.
#![allow(clippy::print_stdout, reason = "says what was done")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long each target runs.
const TIME: Duration = Duration::from_secs(8);

#[test]
fn decode() {
    smoke("decode", targets::decode);
}

#[test]
fn decrypt() {
    smoke("decrypt", targets::decrypt);
}

#[test]
fn group_file() {
    smoke("group_file", targets::group_file);
}

#[test]
fn typed_view() {
    smoke("typed_view", targets::typed_view);
}

fn smoke(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|path| fs::read(path).unwrap()).collect();
    let mut random = Random(1);
    let (start, mut runs) = (Instant::now(), 0u64);
    while start.elapsed() < TIME {
        let input = changed(&seeds, &mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(outcome.is_ok(), "{name} fails for {input:02x?}");
        runs += 1;
    }
    println!("{name}: {runs} runs");
}

/// A seed with a few bytes changed, inserted, dropped, repeated, or taken from another seed.
fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(data.len() + 1);
        let len = random.below(1 + (data.len() - at).min(32));
        match random.below(5) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => drop(data.drain(at..at + len)),
            3 => {
                let part = data[at..at + len].to_vec();
                data.splice(at..at, part);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                data.splice(at..at + len, other[from..to].iter().copied());
            }
        }
    }
    data
}

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}
