//! What holds for every library of a vendor, over its stand-in.

#![allow(clippy::print_stderr, reason = "children tell their parent how they ended")]

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mslite_collective::{
    CollectiveExt, CollectiveKind, CollectiveOp, DeviceTransport, Error, JoinOptions, Reduction, Rendezvous,
    Result, World,
};
use mslite_standins::Standins;
use mslite_tensor::{Buffer, DType, HostBuffer, HostStream, Stream, Tensor};

/// How long ranks wait where nobody is meant to be late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long they wait for what never comes.
const SHORT: Duration = Duration::from_millis(1500);

/// A vendor's library, as tests use it.
pub(crate) struct Vendor {
    /// Opens it for a rank.
    pub(crate) open: fn(World, How<'_>) -> Result<DeviceTransport>,
    /// The function that is looked for first.
    pub(crate) first_function: &'static str,
    /// What is said of device 100000.
    pub(crate) absent_device: &'static str,
}

/// The options that all libraries have.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) device: usize,
    pub(crate) library: &'a Path,
    pub(crate) driver: &'a Path,
    pub(crate) compare: bool,
}

impl How<'_> {
    pub(crate) fn standin(device: usize, compare: bool) -> Self {
        How { device, library: standins().path(), driver: standins().path(), compare }
    }
}

impl Vendor {
    fn rank(&self, control: World, device: usize, compare: bool) -> Result<Rank> {
        let transport = (self.open)(control, How::standin(device, compare))?;
        Ok(Rank { world: World::over(transport.clone())?, transport })
    }

    /// Why it does not open.
    fn refusal(&self, how: How<'_>) -> Error {
        (self.open)(alone(), how).expect_err("something is not there")
    }
}

pub(crate) fn alone() -> World {
    World::threads(1, PATIENCE).unwrap().remove(0)
}

/// One rank with a device.
struct Rank {
    world: World,
    transport: DeviceTransport,
}

/// Makes a test of each case.
macro_rules! cases {
    ($vendor:expr) => {
        cases! { $vendor =>
            streams_keep_order
            worlds_split
            asynchronous_errors_reach_all
            hanging_operations_time_out
            waits_for_streams_end
            mismatches_time_out
            messages_are_compared
            refused_calls_reach_all
            joins_that_hang_time_out
            joins_that_fail_reach_all
            absent_ranks_are_named
            aborts_end_waits
            cancellation_ends_waits
            groups_end_alone
            dead_processes_are_noticed
            absent_libraries_are_unsupported
            libraries_without_a_function_are_unsupported
            absent_devices_are_named
        }
    };
    ($vendor:expr => $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                device::$case($vendor);
            }
        )*
    };
}

pub(crate) use cases;

pub(crate) fn standins() -> &'static Standins {
    static STANDINS: OnceLock<Standins> = OnceLock::new();
    STANDINS.get_or_init(|| Standins::open().unwrap())
}

/// Devices that no other test of this process uses.
struct Devices {
    first: usize,
    count: usize,
}

impl Devices {
    fn new(count: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Devices { first: NEXT.fetch_add(count, Ordering::Relaxed), count }
    }

    /// Makes something go wrong at a rank.
    fn fault(&self, rank: usize, fault: &str) {
        standins().fault(&format!("{} {fault}", self.first + rank));
    }

    /// Runs a function at each rank, with its control world and device, and gives the results by rank.
    fn run<R: Send>(&self, timeout: Duration, work: impl Fn(World, usize) -> R + Sync) -> Vec<R> {
        let worlds = World::threads(self.count, timeout).unwrap();
        std::thread::scope(|scope| {
            let (work, first) = (&work, self.first);
            let spawn = |world: World| {
                let device = first + world.rank();
                scope.spawn(move || work(world, device))
            };
            let threads: Vec<_> = worlds.into_iter().map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// Nothing was called wrongly, and nothing is left.
    fn assert_clean(&self) {
        assert_eq!(standins().violations(), "");
        for device in self.first..self.first + self.count {
            assert_eq!(standins().alive(device), 0, "device {device}");
        }
    }

    /// Every rank gets an error within the timeout and what ending takes; `judge` sees those of all.
    fn fail(&self, timeout: Duration, work: impl Fn(World, usize) -> Result<()> + Sync) -> Vec<Error> {
        let since = Instant::now();
        let results = self.run(timeout, work);
        // Generous: the machine may be busy with other tests.
        assert!(since.elapsed() < timeout + Duration::from_secs(20), "ranks took {:?}", since.elapsed());
        let errors = results.into_iter().enumerate();
        let errors =
            errors.map(|(rank, result)| result.err().unwrap_or_else(|| panic!("rank {rank} succeeded")));
        let errors = errors.collect();
        self.assert_clean();
        errors
    }
}

fn sum(world: &World) -> Result<()> {
    world.everybody().all_reduce(&mut [1.0f32; 10], Reduction::Sum)
}

fn all_reduce() -> CollectiveOp {
    CollectiveOp::new(CollectiveKind::AllReduce(Reduction::Sum), "hccl_world_group")
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_vec(values.to_vec(), &[values.len()]).unwrap()
}

/// Operations follow each other on a caller's stream; only the end is waited for.
pub(crate) fn streams_keep_order(vendor: &Vendor) {
    let devices = Devices::new(3);
    devices.run(PATIENCE, |control, device| {
        let number = control.rank();
        let rank = vendor.rank(control, device, false).unwrap();
        let stream = rank.transport.stream().unwrap();
        let [a, b] = [(); 2].map(|()| rank.transport.buffer(DType::F32, &[4]).unwrap());
        let all = rank.transport.buffer(DType::F32, &[12]).unwrap();
        a.write(&floats(&[number as f32; 4])).unwrap();
        let group = rank.world.everybody();
        group.enqueue(&all_reduce(), &a, &b, &stream).unwrap();
        group.enqueue(&all_reduce(), &b, &a, &stream).unwrap();
        let gather = CollectiveOp::new(CollectiveKind::AllGather, "nccl_world_group");
        group.enqueue(&gather, &a, &all, &stream).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(all.read().unwrap().as_slice::<f32>().unwrap(), [9.0; 12]);
        // In place, and device memory in an operation that waits.
        group.enqueue(&all_reduce(), &a, &a, &HostStream).unwrap();
        assert_eq!(a.read().unwrap().as_slice::<f32>().unwrap(), [27.0; 4]);
        let host = HostBuffer::zeroed(DType::F32, &[4]).unwrap();
        let refused = group.enqueue(&all_reduce(), &a, &host, &stream);
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
        assert!(matches!(a.write(&floats(&[0.0])), Err(Error::InvalidArgument(_))));
        assert_eq!((a.host(), a.device().unwrap().len), (None, 16));
        rank.world.everybody().barrier().unwrap();
    });
    devices.assert_clean();
}

/// Parts by color, in the order of keys; groups of members, and a rank in no part.
pub(crate) fn worlds_split(vendor: &Vendor) {
    let devices = Devices::new(4);
    devices.run(PATIENCE, |control, device| {
        let number = control.rank();
        let rank = vendor.rank(control, device, true).unwrap();
        let part = rank.world.split("parity", Some(number as u64 % 2), -(number as i64)).unwrap().unwrap();
        let mut members = [9i32; 2];
        part.all_gather(&[number as i32], &mut members).unwrap();
        assert_eq!(members, if number.is_multiple_of(2) { [2, 0] } else { [3, 1] });
        let color = (number != 1).then_some(7);
        let rest = rank.world.split("rest", color, 0).unwrap();
        assert_eq!(rest.is_some(), number != 1);
        if let Some(rest) = rest {
            assert_eq!(rest.group().ranks, [0, 2, 3]);
            let mut total = [number as i64];
            rest.all_reduce(&mut total, Reduction::Sum).unwrap();
            assert_eq!(total, [5]);
            let again = rank.world.group("rest", &[0, 2, 3]).unwrap();
            assert_eq!(again.group(), rest.group());
        }
        rank.world.everybody().barrier().unwrap();
    });
    devices.assert_clean();
}

/// The library finds the failure at one rank; the others are told.
pub(crate) fn asynchronous_errors_reach_all(vendor: &Vendor) {
    let devices = Devices::new(3);
    devices.fault(1, "async-error 2");
    let errors = devices.fail(PATIENCE, |control, device| {
        let rank = vendor.rank(control, device, true)?;
        (0..4).try_for_each(|_| sum(&rank.world))
    });
    assert!(matches!(errors[1], Error::Library { .. }), "{}", errors[1]);
    for error in [&errors[0], &errors[2]] {
        assert_eq!(error.culprits(), [1], "{error}");
    }
}

/// Without a word from the library there is only the time.
pub(crate) fn hanging_operations_time_out(vendor: &Vendor) {
    let devices = Devices::new(2);
    devices.fault(1, "hang 1");
    let errors = devices.fail(SHORT, |control, device| {
        let rank = vendor.rank(control, device, false)?;
        (0..3).try_for_each(|_| sum(&rank.world))
    });
    assert!(errors.iter().any(|error| matches!(error, Error::Timeout { .. })), "{errors:?}");
    assert!(errors.iter().all(|e| matches!(e, Error::Timeout { .. } | Error::PeerLost { .. })), "{errors:?}");
}

/// A stream of the caller's is waited for, and comes free.
pub(crate) fn waits_for_streams_end(vendor: &Vendor) {
    let devices = Devices::new(2);
    devices.fault(0, "hang 0");
    let errors = devices.fail(SHORT, |control, device| {
        let rank = vendor.rank(control, device, false)?;
        let stream = rank.transport.stream()?;
        let buffer = rank.transport.buffer(DType::F32, &[100])?;
        rank.world.everybody().enqueue(&all_reduce(), &buffer, &buffer, &stream)?;
        let waited = stream.wait();
        // The stream is free of the operation when the wait ends, so that the buffer may go.
        let idle = Instant::now();
        while stream.wait().is_err() && idle.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        waited
    });
    assert!(errors.iter().any(|error| matches!(error, Error::Timeout { .. })), "{errors:?}");
}

/// Without comparison, operations that do not fit are not told from late ones.
pub(crate) fn mismatches_time_out(vendor: &Vendor) {
    let devices = Devices::new(2);
    let errors = devices.fail(SHORT, |control, device| {
        let number = control.rank();
        let rank = vendor.rank(control, device, false)?;
        rank.world.everybody().all_reduce(&mut vec![1.0f32; 8 + number], Reduction::Sum)
    });
    assert!(errors.iter().any(|error| matches!(error, Error::Timeout { .. })), "{errors:?}");
    let error = errors.iter().find(|error| matches!(error, Error::Timeout { .. })).unwrap();
    assert!(error.to_string().contains("all_reduce(sum) of f32["), "{error}");
}

/// With comparison, also messages are told apart, and both sides learn of it.
pub(crate) fn messages_are_compared(vendor: &Vendor) {
    let devices = Devices::new(2);
    let errors = devices.fail(PATIENCE, |control, device| {
        let number = control.rank();
        let rank = vendor.rank(control, device, true)?;
        let group = rank.world.everybody();
        match number {
            0 => group.send(&[1i32; 4], 1, 3)?,
            _ => group.receive(&mut [0i32; 5], 0, 3)?,
        }
        group.barrier()
    });
    assert!(matches!(&errors[1], Error::Mismatch { ranks: [0, 1], .. }), "{errors:?}");
    assert_eq!(errors[0].culprits(), [1], "{errors:?}");
}

/// A call that the library refuses at one rank.
pub(crate) fn refused_calls_reach_all(vendor: &Vendor) {
    let devices = Devices::new(2);
    devices.fault(0, "refuse 1");
    let errors = devices.fail(PATIENCE, |control, device| {
        let rank = vendor.rank(control, device, true)?;
        (0..3).try_for_each(|_| sum(&rank.world))
    });
    assert!(matches!(errors[0], Error::Library { .. }), "{errors:?}");
    assert_eq!(errors[1].culprits(), [0], "{errors:?}");
}

/// One rank never gets into the group.
pub(crate) fn joins_that_hang_time_out(vendor: &Vendor) {
    let devices = Devices::new(2);
    devices.fault(1, "join-hangs");
    let errors = devices.fail(SHORT, |control, device| vendor.rank(control, device, true).map(drop));
    assert!(errors.iter().any(|error| matches!(error, Error::Timeout { .. })), "{errors:?}");
}

/// One rank's library says no while the others wait in theirs.
pub(crate) fn joins_that_fail_reach_all(vendor: &Vendor) {
    let devices = Devices::new(3);
    devices.fault(2, "join-fails");
    let errors = devices.fail(PATIENCE, |control, device| vendor.rank(control, device, true).map(drop));
    assert!(matches!(errors[2], Error::Library { .. }), "{errors:?}");
    assert!(errors[..2].iter().all(|error| error.culprits() == [2]), "{errors:?}");
}

/// A rank that gives up before it has a device.
pub(crate) fn absent_ranks_are_named(vendor: &Vendor) {
    let devices = Devices::new(2);
    let results = devices.run(PATIENCE, |control, device| match control.rank() {
        0 => vendor.rank(control, device, true).map(drop),
        _ => Ok(()),
    });
    assert_eq!(results[0].as_ref().unwrap_err().culprits(), [1], "{results:?}");
    devices.assert_clean();
}

/// An abort from another thread ends a wait.
pub(crate) fn aborts_end_waits(vendor: &Vendor) {
    let devices = Devices::new(2);
    let results = devices.run(PATIENCE, |control, device| {
        let number = control.rank();
        let rank = vendor.rank(control, device, false)?;
        let group = rank.world.everybody();
        group.barrier()?;
        if number == 1 {
            // Until rank 0 has given up.
            return Ok(());
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| group.all_reduce(&mut [1.0f32; 3], Reduction::Sum));
            std::thread::sleep(Duration::from_millis(50));
            rank.world.abort("enough");
            waiting.join().unwrap()
        })
    });
    assert!(matches!(&results[0], Err(Error::Aborted { reason }) if reason == "enough"), "{results:?}");
    devices.assert_clean();
}

/// Another thread ends what all ranks wait for; or a signal's handler does, by its note.
pub(crate) fn cancellation_ends_waits(vendor: &Vendor) {
    for by in ["the user", "SIGTERM"] {
        let devices = Devices::new(3);
        let results = devices.run(PATIENCE, |control, device| {
            let number = control.rank();
            let rank = vendor.rank(control, device, false)?;
            let group = rank.world.everybody();
            group.barrier()?;
            if number == 2 {
                // Until it is told; the library would wait for it.
                while group.watch(Duration::ZERO).is_ok() {
                    std::thread::yield_now();
                }
                return group.barrier();
            }
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| group.all_reduce(&mut [1.0f32; 3], Reduction::Sum));
                std::thread::sleep(Duration::from_millis(50));
                match (number, by) {
                    (0, _) => {}
                    (_, "SIGTERM") => rank.world.cancellation().signal(15),
                    (_, by) => rank.world.cancellation().cancel(by),
                }
                waiting.join().unwrap()
            })
        });
        for result in &results {
            assert!(
                matches!(result, Err(Error::Cancelled { rank: 1, by: named, .. }) if named == by),
                "{results:?}"
            );
        }
        devices.assert_clean();
    }
}

/// Giving up a group leaves the others.
pub(crate) fn groups_end_alone(vendor: &Vendor) {
    let devices = Devices::new(2);
    devices.run(PATIENCE, |control, device| {
        let number = control.rank();
        let rank = vendor.rank(control, device, true).unwrap();
        let pair = rank.world.group("pair", &[0, 1]).unwrap();
        pair.barrier().unwrap();
        if number == 1 {
            pair.abort();
            assert!(matches!(pair.barrier(), Err(Error::Aborted { .. })));
        } else {
            assert_eq!(pair.barrier().unwrap_err().culprits(), [1]);
        }
        sum(&rank.world).unwrap();
    });
    devices.assert_clean();
}

const CHILD: &str = "MSLITE_DEVICE_TEST_CHILD";

/// Ranks are processes; one of them dies with an operation under way.
pub(crate) fn dead_processes_are_noticed(vendor: &Vendor) {
    if let Ok(place) = std::env::var(CHILD) {
        let (rank, rendezvous) = place.split_once(' ').unwrap();
        let rank = rank.parse().unwrap();
        let mut options = JoinOptions::new(rank, 3, Rendezvous::new(rendezvous).unwrap());
        options.timeout = PATIENCE;
        let rank = vendor.rank(World::join(&options).unwrap(), rank, true).unwrap();
        let error = (0..100).find_map(|_| sum(&rank.world).err());
        eprintln!("error: {}", error.unwrap());
        return;
    }
    let rendezvous = Rendezvous::unique();
    let spawn = |rank: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dead_processes_are_noticed", "--nocapture"])
            .env(CHILD, format!("{rank} {rendezvous}"))
            .env("MSLITE_STANDINS_FAULTS", "1 die 5")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..3).map(spawn).collect();
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    for (rank, output) in outputs.enumerate() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), rank != 1, "rank {rank}: {text}");
        assert!(rank == 1 || text.contains("error: rank 1 is lost (its process "), "rank {rank}: {text}");
    }
    rendezvous.cleanup().unwrap();
}

pub(crate) fn absent_libraries_are_unsupported(vendor: &Vendor) {
    let (how, nowhere) = (How::standin(0, false), Path::new("/nonexistent/library.so"));
    for how in [How { library: nowhere, ..how }, How { driver: nowhere, ..how }] {
        let error = vendor.refusal(how);
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert!(error.to_string().contains("/nonexistent/library.so: "), "{error}");
    }
}

pub(crate) fn libraries_without_a_function_are_unsupported(vendor: &Vendor) {
    let error = vendor.refusal(How { library: Path::new("libm.so.6"), ..How::standin(0, false) });
    let Error::Unsupported(reason) = error else { panic!("{error}") };
    let expected = format!("libm.so.6 has no function {}: ", vendor.first_function);
    assert!(reason.starts_with(&expected), "{reason}");
}

pub(crate) fn absent_devices_are_named(vendor: &Vendor) {
    assert_eq!(vendor.refusal(How::standin(100_000, false)).to_string(), vendor.absent_device);
}
