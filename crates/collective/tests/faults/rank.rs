//! What a rank does: the steps of its plan for ever, until something befalls it or another.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mslite_collective::{
    Collective, CollectiveExt, CollectiveKind, Error, JoinOptions, Reduction, Result, World,
};
use mslite_tensor::{DType, Tensor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::plan::{Fault, Plan, Step, TIMEOUT, What};

/// Steps that a job goes on after a fault that is none for the others.
const FURTHER: u64 = 40;

/// Bytes that no rank gets when there is no more memory.
const LARGE: usize = 1 << 30;

/// Runs a rank. It prints `FAULT time` when it strikes, `JOINED` when all have met, and `RESULT time ...` at its end.
pub(crate) fn run(plan: &Plan) {
    let options = JoinOptions::from_env().unwrap().expect("the parent sets the environment");
    let is_victim = options.rank == plan.victim;
    if is_victim && plan.fault == Fault::NoRoom {
        say("FAULT");
        limit_memory();
    }
    let result = World::join(&options).and_then(|world| {
        println!("\nJOINED");
        work(plan, &world, is_victim).inspect_err(|error| {
            if let Error::Io { .. } | Error::InvalidArgument(_) = error {
                world.abort(&error.to_string());
            }
        })
    });
    match result {
        Ok(()) => say("RESULT ok"),
        Err(error) => say(&format!("RESULT {} {:?} {error}", kind(&error), error.culprits())),
    }
}

/// Prints one line, with the time in its second place.
fn say(line: &str) {
    let line = line.replace('\n', ";");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let (head, rest) = line.split_once(' ').unwrap_or((&line, ""));
    println!("\n{head} {now} {rest}");
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::PeerLost { .. } => "lost",
        Error::Timeout { .. } => "timeout",
        Error::Mismatch { .. } => "mismatch",
        Error::Aborted { .. } => "aborted",
        Error::Unsupported(_) => "unsupported",
        Error::InvalidArgument(_) => "invalid",
        Error::Io { .. } => "io",
        _ => "other",
    }
}

fn work(plan: &Plan, world: &World, is_victim: bool) -> Result<()> {
    let everybody = world.everybody();
    let mut groups = Vec::new();
    for (i, ranks) in plan.groups.iter().enumerate() {
        let is_member = ranks.contains(&world.rank());
        groups.push(if is_member { Some(world.group(&format!("group {i}"), ranks)?) } else { None });
    }
    let end = if plan.fault == Fault::Slow { plan.step + FURTHER } else { u64::MAX };
    let mut is_mismatch_due = false;
    for number in 0..end {
        if is_victim && number == plan.step {
            strike(plan, world)?;
            is_mismatch_due = plan.fault == Fault::Mismatch;
        }
        let step = plan.step(number);
        let group = match step.group {
            None => Some(&everybody),
            Some(i) => groups[i].as_ref(),
        };
        let Some(group) = group else { continue };
        if is_mismatch_due && matches!(step.what, What::Collective(_)) {
            say("FAULT");
            return group.all_reduce(&mut [1u16; 7], Reduction::Max);
        }
        do_step(group, &step)?;
    }
    Ok(())
}

/// What befalls the victim before its step.
fn strike(plan: &Plan, world: &World) -> Result<()> {
    match plan.fault {
        Fault::Kill | Fault::Stop | Fault::NoRoom | Fault::Mismatch => return Ok(()),
        _ => say("FAULT"),
    }
    match plan.fault {
        Fault::Slow => std::thread::sleep(TIMEOUT / 4 + plan.delay),
        Fault::Exit => std::process::exit(0),
        Fault::Panic => panic!("a rank panics"),
        Fault::Abort => std::process::abort(),
        Fault::GiveUp => world.abort("no more paper"),
        Fault::NoMemory => {
            limit_memory();
            Tensor::zeros(DType::U8, &[LARGE])
                .map_err(|error| Error::InvalidArgument(format!("no memory: {error}")))?;
        }
        _ => {}
    }
    Ok(())
}

/// Allows this process next to no memory besides what it has.
fn limit_memory() {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    // Pages have at least 4 KiB.
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let current = pages * 4096 + (64 << 10);
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current: Some(current), maximum }).unwrap();
}

fn do_step(group: &Arc<dyn Collective>, step: &Step) -> Result<()> {
    let (me, n) = (group.group().rank, group.group().size());
    let value = |member: usize| group.group().ranks[member] as i32 + 1;
    match &step.what {
        What::Ring { tag } => {
            let (next, previous) = ((me + 1) % n, (me + n - 1) % n);
            group.send(&vec![value(me); step.count], next, *tag)?;
            let mut data = vec![0; step.count];
            group.receive(&mut data, previous, *tag)?;
            assert!(data.iter().all(|&x| x == value(previous)), "{step:?}");
        }
        What::Collective(kind) => {
            let (send, recv) = blocks(kind, n);
            let send = Tensor::from_vec(vec![value(me); send * step.count], &[send * step.count]).unwrap();
            let mut received = Tensor::zeros(DType::I32, &[recv * step.count]).unwrap();
            group.run(kind.clone(), &send, &mut received)?;
            let all = (0..n).map(value).sum();
            for (i, block) in received.as_slice::<i32>().unwrap().chunks(step.count.max(1)).enumerate() {
                let expected = match *kind {
                    CollectiveKind::AllGather | CollectiveKind::AllToAll => value(i),
                    CollectiveKind::Gather { root } if root == me => value(i),
                    CollectiveKind::AllReduce(_) | CollectiveKind::ReduceScatter(_) => all,
                    CollectiveKind::Reduce { root, .. } if root == me => all,
                    CollectiveKind::Broadcast { root } => value(root),
                    _ => 0,
                };
                assert!(block.iter().all(|&x| x == expected), "{step:?}");
            }
        }
    }
    Ok(())
}

/// Blocks of what is sent and received.
fn blocks(kind: &CollectiveKind, n: usize) -> (usize, usize) {
    match kind {
        CollectiveKind::AllGather | CollectiveKind::Gather { .. } => (1, n),
        CollectiveKind::ReduceScatter(_) => (n, 1),
        CollectiveKind::AllToAll => (n, n),
        _ => (1, 1),
    }
}

/// When something was said, in the lines of a rank.
pub(crate) fn time_of(output: &str, head: &str) -> Option<Duration> {
    let line = output.lines().find_map(|line| line.strip_prefix(head)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok().map(Duration::from_micros)
}
