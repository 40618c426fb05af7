//! How near AllReduce comes to the least that two or more processes can do: a bare protocol, without checks, that knows
//! where its peers' bytes are, spins for ever, and is pinned like ours. Both take turns every few milliseconds, as
//! machines change their mind about where cores are.
//!
//! `cargo run --release -p mslite-collective --example sketch -- 2`
#![allow(unsafe_code, reason = "the protocol that this compares with has no checks")]
#![allow(clippy::print_stdout, reason = "the table is its result")]

use std::fs::File;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use memmap2::{MmapOptions, MmapRaw};
use mslite_collective::{
    CollectiveExt, CollectiveKind, CollectiveOp, JoinOptions, Reduction, WORLD_GROUP, World, launch,
};
use mslite_tensor::{Buffer, DType, HostSpan, HostStream};

const SIZES: [usize; 6] = [8, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// Bytes of the largest vector.
const MOST: usize = 64 << 20;
/// Seconds that a batch takes, about.
const BATCH: f64 = 2e-3;
const BATCHES: usize = 40;
/// Bytes between flags, and from the last of them to the vectors.
const LINE: usize = 128;
const FLAGS: usize = 4096;
/// Bytes from which on the bare protocol writes past the caches.
const STREAM: usize = 16 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(options) = JoinOptions::from_env()? {
        return measure(&World::join(&options)?);
    }
    let ranks = std::env::args().nth(1).map_or(Ok(2), |ranks| ranks.parse())?;
    let mut options = launch::LaunchOptions::new(ranks, [std::env::current_exe()?]);
    options.mark_lines = false;
    std::process::exit(launch::run(&options)?);
}

fn measure(world: &World) -> Result<(), Box<dyn std::error::Error>> {
    pin(world.rank());
    let group = world.everybody();
    let [mut send, mut receive] = [vec![1u8; MOST], vec![0u8; MOST]];
    let memory =
        [group.allocate(MOST)?, group.allocate(MOST)?].map(|memory| memory.expect("ranks are processes"));
    let registered = [memory[0].span(), memory[1].span()];
    let plain = [&mut send, &mut receive].map(|bytes| HostSpan {
        ptr: NonNull::new(bytes.as_mut_ptr()).expect("a vector has an address"),
        len: MOST,
    });
    let mut bare = Bare::new(world)?;
    let op = CollectiveOp::new(CollectiveKind::AllReduce(Reduction::Sum), WORLD_GROUP);
    let ours = |[send, receive]: [HostSpan; 2], bytes: usize| {
        let vector = |span: HostSpan| Vector { span: HostSpan { len: bytes, ..span }, dims: [bytes / 4] };
        group.enqueue(&op, &vector(send), &vector(receive), &HostStream)
    };
    if world.rank() == 0 {
        println!(
            "{:>10} {:>12} {:>12} {:>12} {:>12}   registered / bare",
            "bytes", "plain us", "registered", "one shot", "in place"
        );
    }
    for bytes in SIZES {
        let mut times: [Vec<f64>; 4] = Default::default();
        let mut runs = [1usize; 4];
        for batch in 0..BATCHES {
            for way in 0..times.len() {
                group.barrier()?;
                let start = Instant::now();
                for _ in 0..runs[way] {
                    match way {
                        0 => ours(plain, bytes)?,
                        1 => ours(registered, bytes)?,
                        2 => bare.one_shot(bytes),
                        _ => bare.in_place(bytes),
                    }
                }
                let mut longest = [start.elapsed().as_secs_f64() / runs[way] as f64];
                group.all_reduce(&mut longest, Reduction::Max)?;
                match batch {
                    0 | 1 => runs[way] = ((BATCH / longest[0]) as usize).clamp(1, runs[way] * 100),
                    _ => times[way].push(longest[0] * 1e6),
                }
            }
        }
        if world.rank() == 0 {
            let ratios = (0..times[0].len()).map(|n| times[1][n] / times[2][n].min(times[3][n])).collect();
            let [plain, registered, one_shot, in_place] = times.map(median);
            println!(
                "{bytes:>10} {plain:>12.2} {registered:>12.2} {one_shot:>12.2} {in_place:>12.2}   {:.2}",
                median(ratios)
            );
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pin(rank: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(rank % cores);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[derive(Debug)]
struct Vector {
    span: HostSpan,
    dims: [usize; 1],
}

impl Buffer for Vector {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        Some(self.span)
    }
}

/// The bare protocol: for each rank three flags and two vectors in memory that all map.
struct Bare {
    map: MmapRaw,
    rank: usize,
    ranks: usize,
    turn: u32,
    /// A vector of this rank alone.
    own: Vec<f32>,
}

impl Bare {
    fn new(world: &World) -> Result<Self, Box<dyn std::error::Error>> {
        let (rank, ranks) = (world.rank(), world.size());
        let len = FLAGS + 2 * ranks * MOST;
        let group = world.everybody();
        let file = File::from(rustix::fs::memfd_create("sketch", rustix::fs::MemfdFlags::empty())?);
        file.set_len(len as u64)?;
        let mut whose = [u64::from(std::process::id()), std::os::fd::AsRawFd::as_raw_fd(&file) as u64];
        group.broadcast(&mut whose, 0)?;
        let file =
            File::options().read(true).write(true).open(format!("/proc/{}/fd/{}", whose[0], whose[1]))?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        let bare = Bare { map, rank, ranks, turn: 0, own: vec![1.0; MOST / 4] };
        group.barrier()?;
        bare.vector(rank, 0, MOST / 4).fill(1.0);
        bare.vector(rank, 1, MOST / 4).fill(1.0);
        group.barrier()?;
        Ok(bare)
    }

    fn flag(&self, stage: usize, rank: usize) -> &AtomicU32 {
        let at = (stage * self.ranks + rank) * LINE;
        // SAFETY: inside the mapping, aligned, and only used atomically.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    #[allow(clippy::mut_from_ref, reason = "flags say who may touch a vector")]
    fn vector(&self, rank: usize, which: usize, len: usize) -> &mut [f32] {
        let at = FLAGS + (2 * rank + which) * MOST;
        // SAFETY: inside the mapping; the flags order who reads and who writes.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(at).cast(), len) }
    }

    fn meet(&self, stage: usize) {
        self.flag(stage, self.rank).store(self.turn, Ordering::Release);
        for rank in 0..self.ranks {
            while self.flag(stage, rank).load(Ordering::Acquire).wrapping_sub(self.turn).cast_signed() < 0 {
                std::hint::spin_loop();
                if self.ranks > 2 {
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Every rank copies its vector to where the others see it, and reduces all of them.
    fn one_shot(&mut self, bytes: usize) {
        self.turn += 1;
        let (len, which) = (bytes / 4, self.turn as usize % 2);
        self.vector(self.rank, which, len).copy_from_slice(&self.own[..len]);
        self.meet(0);
        let mut own = std::mem::take(&mut self.own);
        match self.ranks {
            2 => sum(&mut own[..len], self.vector(0, which, len), self.vector(1, which, len)),
            ranks => {
                own[..len].copy_from_slice(self.vector(0, which, len));
                (1..ranks).for_each(|rank| add(&mut own[..len], self.vector(rank, which, len)));
            }
        }
        self.own = own;
    }

    /// Every rank reduces a part straight from the others' vectors into the others' results.
    fn in_place(&mut self, bytes: usize) {
        self.turn += 1;
        let len = bytes / 4;
        self.meet(0);
        let part = len * self.rank / self.ranks..len * (self.rank + 1) / self.ranks;
        match self.ranks {
            2 => {
                let [x, y] = [0, 1].map(|rank| &self.vector(rank, 0, len)[part.clone()]);
                let [a, b] = [0, 1].map(|rank| &mut self.vector(rank, 1, len)[part.clone()]);
                twice(a, b, x, y, bytes >= STREAM);
            }
            ranks => {
                for at in part.step_by(1024) {
                    let some = at..(at + 1024).min(len * (self.rank + 1) / ranks);
                    let sum = &mut [0f32; 1024][..some.len()];
                    sum.copy_from_slice(&self.vector(0, 0, len)[some.clone()]);
                    (1..ranks).for_each(|rank| add(sum, &self.vector(rank, 0, len)[some.clone()]));
                    (0..ranks).for_each(|rank| self.vector(rank, 1, len)[some.clone()].copy_from_slice(sum));
                }
            }
        }
        self.meet(1);
    }
}

fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

fn sum(out: &mut [f32], x: &[f32], y: &[f32]) {
    out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| *out = x + y);
}

fn twice(a: &mut [f32], b: &mut [f32], x: &[f32], y: &[f32], streams: bool) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && a.as_ptr().addr().is_multiple_of(64) {
        // SAFETY: the processor has it.
        return unsafe { twice_wide(a, b, x, y, streams) };
    }
    let _ = streams;
    for (n, (x, y)) in x.iter().zip(y).enumerate() {
        (a[n], b[n]) = (x + y, x + y);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn twice_wide(a: &mut [f32], b: &mut [f32], x: &[f32], y: &[f32], streams: bool) {
    use std::arch::x86_64::{_mm_sfence, _mm512_add_ps, _mm512_loadu_ps, _mm512_store_ps, _mm512_stream_ps};
    let whole = x.len() / 16 * 16;
    for n in (0..whole).step_by(16) {
        // SAFETY: inside the slices, which are of one length; results begin at lines.
        unsafe {
            let s = _mm512_add_ps(_mm512_loadu_ps(&raw const x[n]), _mm512_loadu_ps(&raw const y[n]));
            for out in [&raw mut a[n], &raw mut b[n]] {
                if streams { _mm512_stream_ps(out, s) } else { _mm512_store_ps(out, s) }
            }
        }
    }
    for n in whole..x.len() {
        (a[n], b[n]) = (x[n] + y[n], x[n] + y[n]);
    }
    _mm_sfence();
}
