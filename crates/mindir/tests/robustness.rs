//! Damaged and hostile files end in errors, quickly, and with memory in proportion to their size.
#![allow(clippy::print_stdout, reason = "tests say when the files are absent")]

mod corpus_files;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use corpus_files::{Case, cases};
use mslite_mindir::{Bytes, GroupFile, Model, OpenOptions, Result};

fn corpus() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/format");
    if !folder.exists() {
        println!("{} is not there: nothing is tested", folder.display());
        return None;
    }
    Some(folder)
}

fn read(bytes: Vec<u8>) -> Result<Model> {
    Model::from_bytes(Bytes::from(bytes), "m.mindir", &OpenOptions::new())
}

const FILES: [&str; 6] = [
    "misc/jit_function.mindir",
    "control_while.mindir",
    "print_io.mindir",
    "mutable_tuple_in.mindir",
    "legacy/synthetic_1x_form.mindir",
    "lite_converter/dyn_fused.mindir",
];

#[test]
fn truncated_files_never_panic() {
    let Some(corpus) = corpus() else { return };
    for file in FILES {
        let bytes = fs::read(corpus.join(file)).unwrap();
        let opened = (0..bytes.len()).filter(|&size| read(bytes[..size].to_vec()).is_ok()).count();
        // A file cut between two fields at its end may still be a model; one cut anywhere else is none.
        assert!(opened <= 3, "{file}: {opened} prefixes are models");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let Some(corpus) = corpus() else { return };
    for file in FILES {
        let bytes = fs::read(corpus.join(file)).unwrap();
        let mut refused = 0;
        for at in 0..bytes.len() {
            for mask in [0x01, 0x08, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                if let Err(error) = read(changed) {
                    refused += 1;
                    assert!(error.to_string().starts_with("m.mindir: "), "{error}");
                }
            }
        }
        assert!(refused > bytes.len() / 2, "{file}: only {refused} changes of {} bytes refused", bytes.len());
    }
}

#[test]
fn noise_never_panics() {
    let mut random = Random(1);
    for size in 1..2000 {
        let noise: Vec<u8> = (0..size % 300).map(|_| random.below(256) as u8).collect();
        let _ = read(field(7, noise));
    }
}

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    /// Changes, repeats, moves or removes some bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(40)).min(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.below(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let chunk = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, chunk);
                }
                _ => bytes[at] ^= 1 << self.below(8),
            }
        }
    }
}

#[test]
fn what_survives_mutation_can_be_written() {
    let mut random = Random(7);
    let small = |case: &Case| fs::metadata(&case.path).is_ok_and(|metadata| metadata.len() < 8_000);
    let (mut read_again, mut refused) = (0, 0);
    for case in cases().into_iter().filter(small) {
        let sound = fs::read(&case.path).unwrap();
        for _ in 0..40 {
            let mut bytes = sound.clone();
            random.mutate(&mut bytes);
            let Ok(model) = Model::from_bytes(bytes.into(), "m.mindir", &case.options) else {
                refused += 1;
                continue;
            };
            let written = model.to_bytes().unwrap();
            let again = Model::from_bytes(written.clone(), "m.mindir", &OpenOptions::new()).unwrap();
            assert!(again.to_bytes().unwrap() == written, "{}", case.path.display());
            read_again += 1;
        }
    }
    println!("{refused} mutations refused, {read_again} read and written");
}

#[test]
fn mutated_group_files_never_panic() {
    let mut random = Random(8);
    let group = |name: &str, ranks: &[u8]| {
        let ranks: Vec<u8> = ranks.iter().flat_map(|&rank| [0x08, rank]).collect();
        field(1, [field(1, name), field(2, ranks)].concat())
    };
    let sound = [group("2-0", &[0, 2]), group("2-1", &[1, 3])].concat();
    assert!(GroupFile::from_bytes(sound.clone().into(), "groups").is_ok());
    for _ in 0..5000 {
        let mut bytes = sound.clone();
        random.mutate(&mut bytes);
        let _ = GroupFile::from_bytes(bytes.into(), "groups");
    }
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn field(number: usize, contents: impl AsRef<[u8]>) -> Vec<u8> {
    let contents = contents.as_ref();
    [varint(number << 3 | 2), varint(contents.len()), contents.to_vec()].concat()
}

fn graph(contents: &[u8]) -> Vec<u8> {
    let graph = [&field(2, "g"), contents, &field(5, field(1, "x")), &field(6, field(1, "x"))].concat();
    field(7, graph)
}

fn constant(attribute: &[u8]) -> Vec<u8> {
    graph(&field(1, [field(2, "c"), field(4, "Constant"), field(5, attribute)].concat()))
}

/// Small messages, many of them, of the kinds that take most memory for their size.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let n = 100_000;
    let tuple_of = |element: &[u8]| constant(&[field(17, element).repeat(n), vec![0x80, 0x01, 20]].concat());
    let node = |i: usize| {
        let name = i.to_string();
        field(1, [field(2, name), field(4, "A")].concat())
    };
    let form = format!("scalar:Tuple[{}]", "none,".repeat(n));
    let input = |i: usize| field(5, field(1, i.to_string()));
    vec![
        ("tuple of none", tuple_of(&[0x80, 0x01, 25])),
        ("tuple of empty tuples", tuple_of(&[0x80, 0x01, 20])),
        ("tuple of empty attributes", tuple_of(&[])),
        ("many nodes", graph(&(0..n).flat_map(node).collect::<Vec<_>>())),
        ("empty nodes", graph(&field(1, "").repeat(n))),
        ("many inputs", graph(&(0..n).flat_map(input).collect::<Vec<_>>())),
        ("textual", constant(&field(15, form))),
        ("dims", graph(&field(3, [0x08, 0x01].repeat(n)))),
        ("operands", graph(&field(1, [field(1, "x").repeat(n), field(2, "y"), field(4, "A")].concat()))),
        ("deep", {
            let deep = (0..10_000)
                .fold(vec![0x80, 0x01, 20], |inner, _| [field(17, inner), vec![0x80, 0x01, 20]].concat());
            constant(&deep)
        }),
        ("groups", field(7, vec![0x7b; n])),
        ("empty functions", [graph(&[]), field(8, "").repeat(n)].concat()),
    ]
}

#[test]
fn memory_stays_in_proportion_to_the_file() {
    for (what, bytes) in hostile() {
        let size = bytes.len();
        let before = LIVE.get();
        PEAK.set(before);
        let result = read(bytes);
        let peak = PEAK.get() - before;
        assert!(peak < 100 * size as isize + 65_536, "{what}: {peak} bytes for a file of {size}; {result:?}");
    }
}

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

#[allow(unsafe_code, reason = "counts what the system's allocator hands out")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
