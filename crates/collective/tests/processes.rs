//! Ranks as processes: this test program runs itself as the ranks, each a call of `rank` with a role.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{blocks, equal, expected, kinds, tensor, values};
use mslite_collective::{
    Cancellation, Collective, CollectiveExt, CollectiveKind, CollectiveOp, Error, JoinOptions, Reduction,
    RegisteredMemory, Rendezvous, World,
};
use mslite_tensor::{Buffer, DType, HostBuffer, HostSpan, HostStream, Tensor};

const ROLE: &str = "COLLECTIVE_TEST_ROLE";

/// Not a test by itself: what a rank does.
#[test]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn rank() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let result = JoinOptions::from_env().and_then(|options| {
        let options = options.expect("the test sets the environment");
        if role == "cancel" && options.rank == 1 {
            signal_soon(options.cancellation.clone());
        }
        let world = World::join(&options)?;
        act(&role, &world)
    });
    println!();
    match result {
        Ok(()) => println!("RESULT ok"),
        Err(error) => println!("RESULT {:?} {error}", error.culprits()),
    }
}

fn act(role: &str, world: &World) -> Result<(), Error> {
    let (rank, group) = (world.rank(), world.everybody());
    let last = rank + 1 == world.size();
    match role {
        "work" => work(world),
        "register" => return register(world),
        "wait" => std::thread::sleep(Duration::from_secs(60)),
        "die" if last => kill_soon(Duration::from_millis(150)),
        "stick" if last => std::thread::sleep(Duration::from_secs(60)),
        "exit" if last => std::process::exit(0),
        "mismatch" if last => return group.all_reduce(&mut [1i32; 3], Reduction::Sum),
        "abort" if last => {
            world.abort("no more paper");
            return Ok(());
        }
        "mismatch" => return group.all_reduce(&mut [1f32; 3], Reduction::Sum),
        _ => {}
    }
    let mut data = vec![1.0f32; 1_000_000];
    for _ in 0..if role == "work" { 3 } else { 1_000_000 } {
        data.fill(1.0);
        group.all_reduce(&mut data, Reduction::Sum)?;
        assert!(data.iter().all(|&x| x == world.size() as f32));
    }
    Ok(())
}

fn work(world: &World) {
    let others = world.exchange(&vec![world.rank() as u8; 1000 * world.rank()]).unwrap();
    assert!(others.iter().enumerate().all(|(r, bytes)| bytes.len() == 1000 * r));
    let next = (world.rank() + 1) % world.size();
    let previous = (world.rank() + world.size() - 1) % world.size();
    world.everybody().send(&[world.rank() as u64; 9], next, 3).unwrap();
    let mut data = [0u64; 9];
    world.everybody().receive(&mut data, previous, 3).unwrap();
    assert_eq!(data, [previous as u64; 9]);
    let halves = if world.rank() < 2 { vec![1, 0] } else { (2..world.size()).collect() };
    let group = world.group("half", &halves).unwrap();
    let mut data = [1i64; 100];
    group.all_reduce(&mut data, Reduction::Sum).unwrap();
    assert_eq!(data, [group.group().size() as i64; 100]);
}

/// Every kind of operation, with buffers that others reach at all, some or none of the ranks.
fn register(world: &World) -> Result<(), Error> {
    let (group, rank, n) = (world.everybody(), world.rank(), world.size());
    let mut memory = [(); 2].map(|()| group.allocate(1 << 21).unwrap().unwrap());
    for kind in kinds(n).into_iter().filter(|kind| kind.tag().is_none()) {
        for (dtype, count) in [(DType::F32, 200), (DType::F32, 5_003), (DType::BF16, 150_001)] {
            for (sends, receives, starts) in
                [(!0, !0, 0), (!0, 0, 0), (1, 2, 0), (0, 0, 0), (!0, !0, 1), (5, 5, 2)]
            {
                let here = |ranks: i32| ranks >> rank & 1 == 1;
                let placed = [here(sends), here(receives)];
                exchange(&*group, &kind, (dtype, count), &mut memory, placed, here(starts))?;
            }
        }
    }
    for turn in 0..50 {
        reduce_in_place_at_one(&*group, &mut memory[0], turn)?;
    }
    pass_on(&*group, &mut memory[0])?;
    tell_oneself(&*group, &mut memory[0])?;
    // Others notice that memory was replaced.
    memory = [(); 2].map(|()| group.allocate(1 << 21).unwrap().unwrap());
    exchange(&*group, &CollectiveKind::AllGather, (DType::I32, 5_000), &mut memory, [true; 2], false)
}

/// Where a rank has its result in the place of its contribution, and the others' results cannot be found.
fn reduce_in_place_at_one(
    group: &dyn Collective,
    memory: &mut RegisteredMemory,
    turn: usize,
) -> Result<(), Error> {
    const COUNT: usize = 100_000;
    let (n, me) = (group.group().size(), group.group().rank);
    let send = &mut memory.as_mut_slice::<f32>()[..COUNT];
    send.fill(me as f32);
    let op = CollectiveOp::new(CollectiveKind::AllReduce(Reduction::Sum), group.group().name.clone());
    let here =
        Placed { dtype: DType::F32, dims: [COUNT], span: HostSpan { len: 4 * COUNT, ..memory.span() } };
    let mut plain = Tensor::zeros(DType::F32, &[COUNT]).unwrap();
    match me == turn % n {
        true => group.enqueue(&op, &here, &here, &HostStream)?,
        false => group.enqueue(&op, &here, &HostBuffer::writing(&mut plain).unwrap(), &HostStream)?,
    }
    let result = match me == turn % n {
        true => &memory.as_mut_slice::<f32>()[..COUNT],
        false => plain.as_slice::<f32>().unwrap(),
    };
    assert!(result.iter().all(|&sum| sum == (0..n).sum::<usize>() as f32), "turn {turn} at rank {me}");
    Ok(())
}

/// A long message of a rank to itself, sent on one thread and received on another.
fn tell_oneself(group: &dyn Collective, memory: &mut RegisteredMemory) -> Result<(), Error> {
    let me = group.group().rank;
    let data = &mut memory.as_mut_slice::<u8>()[..600_000];
    data.fill(7);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut received = vec![0u8; 600_000];
            group.receive(&mut received, me, 9).map(|()| received)
        });
        group.send(data, me, 9)?;
        assert!(receiving.join().unwrap()?.iter().all(|&x| x == 7));
        Ok(())
    })
}

/// Messages around all ranks, from registered memory and not, taken in order and not.
fn pass_on(group: &dyn Collective, memory: &mut RegisteredMemory) -> Result<(), Error> {
    let (n, me) = (group.group().size(), group.group().rank);
    let (next, previous) = ((me + 1) % n, (me + n - 1) % n);
    let value = |rank: usize, tag: i64, i: usize| (i * 7 + rank * 31 + tag as usize) as u8;
    for (len, is_placed) in [(2 << 20, true), (300_001, true), (300_001, false), (1000, true)] {
        let mut plain = vec![0; len];
        let mut send = || {
            for tag in [1, 2] {
                let data = if is_placed { &mut memory.as_mut_slice::<u8>()[..len] } else { &mut plain[..] };
                data.iter_mut().enumerate().for_each(|(i, x)| *x = value(me, tag, i));
                group.send(data, next, tag)?;
                // What was sent is the sender's again.
                data.fill(0xff);
            }
            group.send(&[me as u8], next, 3)
        };
        if me == 0 {
            send()?;
        }
        for tag in if len % 2 == 0 { [1, 2] } else { [2, 1] } {
            let mut data = vec![0; len];
            group.receive(&mut data, previous, tag)?;
            assert!(data.iter().enumerate().all(|(i, &x)| x == value(previous, tag, i)), "{len} {tag}");
        }
        group.receive(&mut [0u8], previous, 3)?;
        if me != 0 {
            send()?;
        }
    }
    Ok(())
}

fn exchange(
    group: &dyn Collective,
    kind: &CollectiveKind,
    (dtype, count): (DType, usize),
    memory: &mut [RegisteredMemory; 2],
    placed: [bool; 2],
    starts: bool,
) -> Result<(), Error> {
    let (n, me) = (group.group().size(), group.group().rank);
    let (send_blocks, recv_blocks) = blocks(kind, n);
    let sends: Vec<_> = (0..n as u64).map(|r| values(dtype, count * send_blocks, r)).collect();
    let (send, mut recv) = (tensor(dtype, &sends[me]), Tensor::zeros(dtype, &[count * recv_blocks]).unwrap());
    memory[0].as_mut_slice::<u8>()[..send.bytes().len()].copy_from_slice(send.bytes());
    let op = CollectiveOp::new(kind.clone(), group.group().name.clone());
    {
        let place = |which: usize, blocks: usize| Placed {
            dtype,
            dims: [count * blocks],
            span: HostSpan { len: count * blocks * dtype.size(), ..memory[which].span() },
        };
        let (placed_send, placed_recv) = (place(0, send_blocks), place(1, recv_blocks));
        let (plain_send, plain_recv) = (HostBuffer::reading(&send), HostBuffer::writing(&mut recv).unwrap());
        let send: &dyn Buffer = if placed[0] { &placed_send } else { &plain_send };
        let recv: &dyn Buffer = if placed[1] { &placed_recv } else { &plain_recv };
        if starts {
            group.start(&op, send, &HostStream)?;
        }
        group.enqueue(&op, send, recv, &HostStream)?;
    }
    let len = recv.bytes().len();
    let result = if placed[1] { &memory[1].as_mut_slice::<u8>()[..len] } else { recv.bytes() };
    if let Some(expected) = expected(dtype, kind, &sends, me) {
        assert!(equal(dtype, result, &expected), "{op} of {count} {dtype} at rank {me}, placed {placed:?}");
    }
    Ok(())
}

#[derive(Debug)]
struct Placed {
    dtype: DType,
    dims: [usize; 1],
    span: HostSpan,
}

impl Buffer for Placed {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        Some(self.span)
    }
}

fn kill_soon(after: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(after);
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
    });
}

/// As the handler of a signal would do it.
fn signal_soon(cancellation: Cancellation) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancellation.signal(2);
    });
}

/// Ranks under test, killed when the test ends.
struct Ranks(Vec<Child>);

impl Ranks {
    fn start(
        role: &str,
        ranks: impl IntoIterator<Item = usize>,
        size: usize,
        at: &Path,
        timeout: f64,
    ) -> Self {
        let start = |rank: usize| {
            Command::new(std::env::current_exe().unwrap())
                .args(["rank", "--exact", "--nocapture", "--test-threads=1"])
                .env(ROLE, role)
                .env("RANK_ID", rank.to_string())
                .env("RANK_SIZE", size.to_string())
                .env("MSLITE_RENDEZVOUS", at)
                .env("MSLITE_TIMEOUT", timeout.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        Ranks(ranks.into_iter().map(start).collect())
    }

    /// Waits until all of them have mapped the file, and some time for them to enter themselves.
    fn wait_until_joining(&self, path: &Path) {
        let since = Instant::now();
        let joins = |child: &Child| {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap_or_default();
            maps.contains(path.to_str().unwrap())
        };
        while !self.0.iter().all(joins) {
            assert!(since.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(200));
    }

    fn results(mut self) -> Vec<String> {
        let children: Vec<Child> = self.0.drain(..).collect();
        children.into_iter().map(|child| result(&child.wait_with_output().unwrap())).collect()
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn result(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    result.map_or_else(|| format!("none, {}", output.status), str::to_owned)
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meet");
    (directory, path)
}

fn assert_empty(directory: &tempfile::TempDir) {
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn processes_work_together_and_leave_nothing() {
    let rendezvous = Rendezvous::unique();
    let results = Ranks::start("work", [3, 1, 0, 2], 4, rendezvous.path(), 30.0).results();
    assert_eq!(results, ["ok"; 4]);
    assert!(!rendezvous.path().exists());
    let (directory, path) = temporary();
    // The same name serves one job after another.
    for _ in 0..2 {
        assert_eq!(Ranks::start("work", 0..3, 3, &path, 30.0).results(), ["ok"; 3]);
        assert_empty(&directory);
    }
}

#[test]
fn ranks_reach_registered_memory_of_others() {
    for size in [2, 3] {
        let (directory, path) = temporary();
        for result in Ranks::start("register", 0..size, size, &path, 30.0).results() {
            assert_eq!(result, "ok");
        }
        assert_empty(&directory);
    }
}

#[test]
fn a_killed_rank_is_named_by_all_others() {
    for size in [2, 4] {
        let (directory, path) = temporary();
        let since = Instant::now();
        let results = Ranks::start("die", 0..size, size, &path, 30.0).results();
        assert!(since.elapsed() < Duration::from_secs(20), "the others did not notice");
        for result in &results[..size - 1] {
            assert!(result.starts_with(&format!("[{}] rank {} is lost", size - 1, size - 1)), "{result}");
            assert!(result.contains("all_reduce(sum) of f32[1000000]"), "{result}");
        }
        assert_empty(&directory);
    }
}

#[test]
fn cancellation_ends_jobs_that_run_and_those_that_meet() {
    for come in [2, 3] {
        let (directory, path) = temporary();
        let ranks = Ranks::start("cancel", 0..come, 3, &path, 30.0);
        for result in ranks.results() {
            assert!(result.starts_with("[1] cancelled by SIGINT at rank 1 during "), "{result}");
        }
        assert_empty(&directory);
    }
}

#[test]
fn a_rank_that_exits_or_aborts_is_named() {
    for (role, reason) in [("exit", "has died"), ("abort", "no more paper")] {
        let (_directory, path) = temporary();
        let results = Ranks::start(role, 0..3, 3, &path, 30.0).results();
        for result in &results[..2] {
            assert!(result.starts_with("[2] rank 2 is lost") && result.contains(reason), "{result}");
        }
    }
}

#[test]
fn a_stuck_rank_is_named_at_the_timeout() {
    let (_directory, path) = temporary();
    let mut ranks = Ranks::start("stick", 0..3, 3, &path, 1.0);
    let stuck = Ranks(vec![ranks.0.pop().unwrap()]);
    for result in ranks.results() {
        assert!(result.starts_with("[2] no answer from rank 2 within 1s"), "{result}");
    }
    drop(stuck);
}

#[test]
fn a_rank_that_never_starts_is_named_at_the_timeout() {
    let (directory, path) = temporary();
    for result in Ranks::start("work", [0, 2], 4, &path, 0.7).results() {
        assert!(result.starts_with("[1, 3] no answer from ranks 1, 3 within 700ms"), "{result}");
        assert!(result.contains("joining"), "{result}");
    }
    assert_empty(&directory);
}

#[test]
fn different_operations_are_errors_at_all_ranks() {
    let (_directory, path) = temporary();
    for result in Ranks::start("mismatch", 0..3, 3, &path, 30.0).results() {
        assert!(
            result.contains("2] ranks ") && result.contains("i32[3]") && result.contains("f32[3]"),
            "{result}"
        );
    }
}

#[test]
fn different_sizes_of_the_world_are_an_error() {
    let (directory, path) = temporary();
    let _waiting = Ranks::start("work", [0], 3, &path, 30.0);
    wait_for(&path);
    let results = Ranks::start("work", [1], 2, &path, 30.0).results();
    assert!(results[0].starts_with("[0, 1] ranks 0 and 1 disagree"), "{results:?}");
    drop(directory);
}

#[test]
fn a_rank_killed_while_others_come_is_named() {
    let (directory, path) = temporary();
    let killed = Ranks::start("work", [1], 3, &path, 30.0);
    killed.wait_until_joining(&path);
    let waiting = Ranks::start("work", [0], 3, &path, 30.0);
    waiting.wait_until_joining(&path);
    drop(killed);
    let results = waiting.results();
    assert!(results[0].starts_with("[1] rank 1 is lost (its process"), "{results:?}");
    assert_empty(&directory);
}

#[test]
fn a_rank_that_a_launcher_saw_end_is_named_at_once() {
    let (directory, path) = temporary();
    let rendezvous = Rendezvous::new(path.to_str().unwrap()).unwrap();
    let early = Ranks::start("work", 0..1, 3, &path, 60.0);
    early.wait_until_joining(&path);
    rendezvous.close(2, 3, "it fell asleep").unwrap();
    let late = Ranks::start("work", 1..2, 3, &path, 60.0);
    for result in early.results().into_iter().chain(late.results()) {
        assert!(result.starts_with("[2]") && result.contains("it fell asleep"), "{result}");
    }
    rendezvous.cleanup().unwrap();
    assert_empty(&directory);
}

#[test]
fn leftovers_of_dead_jobs_are_replaced() {
    let (directory, path) = temporary();
    for leftover in 0..4u64 {
        match leftover {
            0 => std::fs::File::create(&path).unwrap().set_len(0).unwrap(),
            1 => std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap(),
            2 => {
                let dead = Ranks::start("work", [0, 1], 3, &path, 30.0);
                dead.wait_until_joining(&path);
                drop(dead);
            }
            _ => drop((Ranks::start("work", [1], 4, &path, 30.0), wait_for(&path))),
        }
        make_private(&path);
        assert_eq!(Ranks::start("work", 0..3, 3, &path, 30.0).results(), ["ok"; 3], "leftover {leftover}");
        assert_empty(&directory);
    }
}

#[test]
fn a_leftover_that_cannot_be_removed_is_an_error() {
    let (directory, path) = temporary();
    let dead = Ranks::start("work", [0], 2, &path, 30.0);
    dead.wait_until_joining(&path);
    drop(dead);
    let permit = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(directory.path(), permissions).unwrap();
    };
    permit(0o500);
    let is_bound = std::fs::write(directory.path().join("probe"), "").is_err();
    let results = is_bound.then(|| Ranks::start("work", [1], 2, &path, 2.0).results());
    permit(0o700);
    if let Some(results) = results {
        assert!(results[0].contains("cannot remove what a dead job left"), "{results:?}");
    }
}

#[test]
fn a_file_that_stays_locked_is_an_error_at_the_timeout() {
    let (_directory, path) = temporary();
    let file = std::fs::File::create(&path).unwrap();
    file.lock().unwrap();
    let rendezvous = Rendezvous::new(path.to_str().unwrap()).unwrap();
    let mut options = JoinOptions::new(0, 2, rendezvous.clone());
    options.timeout = Duration::from_millis(100);
    assert!(matches!(World::join(&options), Err(Error::Timeout { .. })));
    assert!(rendezvous.close(1, 2, "it fell asleep").is_err());
    // As a rank leaves it that is stopped while it comes.
    let mut start = [0; 4096];
    start[80] = 3;
    std::fs::write(&path, start).unwrap();
    options.size = 4;
    assert_eq!(World::join(&options).unwrap_err().culprits(), [2]);
}

#[test]
fn a_rank_joins_once() {
    let (_directory, path) = temporary();
    let first = Ranks::start("work", [0], 2, &path, 30.0);
    first.wait_until_joining(&path);
    let second = Ranks::start("work", [0], 2, &path, 30.0).results();
    assert!(second[0].contains("is already rank 0"), "{second:?}");
    assert_eq!(Ranks::start("work", [1], 2, &path, 30.0).results(), ["ok"]);
    assert_eq!(first.results(), ["ok"]);
}

#[test]
fn other_files_are_neither_used_nor_removed() {
    let (_directory, path) = temporary();
    std::fs::write(&path, "something precious").unwrap();
    make_private(&path);
    let rendezvous = Rendezvous::new(path.to_str().unwrap()).unwrap();
    let join = || World::join(&JoinOptions::new(0, 2, rendezvous.clone()));
    assert!(matches!(join(), Err(Error::InvalidArgument(_))));
    rendezvous.cleanup().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "something precious");

    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(matches!(join(), Err(Error::InvalidArgument(_))));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(matches!(join(), Err(Error::Io { .. })));
}

#[test]
fn cleanup_removes_what_dead_ranks_left() {
    let (directory, path) = temporary();
    let ranks = Ranks::start("work", [0], 2, &path, 30.0);
    wait_for(&path);
    drop(ranks);
    let rendezvous = Rendezvous::new(path.to_str().unwrap()).unwrap();
    rendezvous.cleanup().unwrap();
    assert_empty(&directory);
    rendezvous.cleanup().unwrap();
}

/// Kills ranks at moments spread over their whole life, joining included.
#[test]
fn ranks_killed_at_any_moment_leave_no_hang() {
    for step in 0..12 {
        let (directory, path) = temporary();
        let mut ranks = Ranks::start("endless", 0..3, 3, &path, 5.0);
        std::thread::sleep(Duration::from_millis(3 * step));
        let killed = Ranks(vec![ranks.0.remove(step as usize % 3)]);
        drop(killed);
        for result in ranks.results() {
            assert!(result.starts_with(&format!("[{}]", step % 3)), "step {step}: {result}");
        }
        Rendezvous::new(path.to_str().unwrap()).unwrap().cleanup().unwrap();
        assert_empty(&directory);
    }
}

fn wait_for(path: &Path) {
    let since = Instant::now();
    while std::fs::metadata(path).map_or(true, |m| m.len() == 0) {
        assert!(since.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn make_private(path: &Path) {
    if path.exists() {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
}
