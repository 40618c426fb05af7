//! Opens a split model of 4 GiB of weights, and says how long that took and how much memory.
//!
//! The data file is sparse: it takes no room on most file systems. Run with
//! `cargo run --release -p mslite-mindir --example open_huge [FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example for people to run")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapOptions};
use mslite_mindir::{Model, OpenOptions};

const WEIGHTS: u64 = 512;
const WEIGHT_BYTES: u64 = 8 << 20;
const HEADER_BYTES: u64 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("open_huge-{}", std::process::id()));
    fs::create_dir_all(folder.join("v"))?;
    let result = run(&folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn run(folder: &Path) -> Result<(), Box<dyn Error>> {
    let graph_file = folder.join("huge_graph.mindir");
    fs::write(&graph_file, graph())?;
    let mut data_file = File::create_new(folder.join("v/data_0"))?;
    data_file.write_all(&[1])?;
    data_file.set_len(HEADER_BYTES + WEIGHTS * WEIGHT_BYTES)?;

    let before = anonymous_kib();
    let start = Instant::now();
    let model = Model::open(&graph_file, &OpenOptions::new())?;
    let opened = start.elapsed();
    let anonymous = anonymous_kib().saturating_sub(before);
    let summary = model.summary();
    println!("{} weights, {} MiB", summary.parameters, summary.parameter_bytes >> 20);
    println!("opened in {opened:?}, with {anonymous} KiB of anonymous memory");

    // The first time brings the file into the page cache.
    for round in 0..3 {
        let mapping = map(&File::open(folder.join("v/data_0"))?)?;
        let file = touch([&mapping[..]]);
        let model = Model::open(&graph_file, &OpenOptions::new())?;
        let weights = touch(model.parameters().map(|parameter| &parameter.data.data[..]));
        println!(
            "round {round}: touching every page of the mapped file {file:?}, of the weights {weights:?}"
        );
    }
    Ok(())
}

fn touch<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Duration {
    let start = Instant::now();
    let pages = parts.into_iter().flat_map(|part| part.iter().step_by(4096));
    std::hint::black_box(pages.fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    start.elapsed()
}

#[allow(unsafe_code, reason = "maps the file to compare with")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the file is this process's own, and is not written to any more.
    unsafe { MmapOptions::new().map_copy_read_only(file) }
}

fn anonymous_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// A graph that returns its input, beside the weights; encoded by hand, so that these need not exist.
fn graph() -> Vec<u8> {
    let mut graph = field(2, b"g");
    graph.extend(field(5, &field(1, b"g:x")));
    graph.extend(field(6, &field(1, b"g:x")));
    for i in 0..WEIGHTS {
        let external =
            [field(1, b"v/data_0"), number(2, HEADER_BYTES + i * WEIGHT_BYTES), number(3, WEIGHT_BYTES)];
        let name = format!("g:layer{i}.weight");
        let uint8 = 2;
        let parameter = [
            number(1, WEIGHT_BYTES),
            number(2, uint8),
            field(7, name.as_bytes()),
            field(12, &external.concat()),
        ];
        graph.extend(field(3, &parameter.concat()));
    }
    [field(1, b"1.1"), field(2, b"MindSpore"), field(5, b"2.10.0"), field(7, &graph)].concat()
}

fn field(tag: u64, contents: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(contents.len() as u64), contents.to_vec()].concat()
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
