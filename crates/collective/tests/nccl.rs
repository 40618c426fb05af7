//! NCCL, over a stand-in that checks every call and fails when asked to. Conformance is tested in mslite-testkit.

#![allow(clippy::print_stdout, reason = "says what was not tested")]

mod device;

use std::path::PathBuf;

use device::{PATIENCE, Rank, cases, standins};
use mslite_collective::nccl::NcclOptions;
use mslite_collective::{
    CollectiveExt, CollectiveKind, CollectiveOp, Error, Reduction, Result, WORLD_GROUP, World,
};
use mslite_tensor::{DType, Stream, Tensor};

fn make(control: World, device: usize, compare: bool) -> Result<Rank> {
    let nccl = options(device, compare).open(control)?;
    let world = World::over(nccl.clone())?;
    let streams = nccl.clone();
    Ok(Rank {
        world,
        stream: Box::new(move || streams.stream()),
        buffer: Box::new(move |dtype, dims| nccl.buffer(dtype, dims)),
    })
}

fn options(device: usize, compare: bool) -> NcclOptions {
    let library = Some(standins().path().to_owned());
    NcclOptions { device, library: library.clone(), driver: library, compare }
}

cases! { make =>
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
    aborts_end_waits cancellation_ends_waits
    groups_end_alone
    dead_processes_are_noticed
}

fn alone() -> World {
    World::threads(1, PATIENCE).unwrap().remove(0)
}

#[test]
fn absent_libraries_are_unsupported() {
    let nowhere = PathBuf::from("/nonexistent/libnccl.so.2");
    let without_nccl = NcclOptions { library: Some(nowhere.clone()), ..options(0, false) };
    let without_driver = NcclOptions { driver: Some(nowhere), ..options(0, false) };
    for options in [without_nccl, without_driver] {
        let Err(Error::Unsupported(reason)) = options.open(alone()) else { panic!("it is there") };
        assert!(reason.contains("/nonexistent/libnccl.so.2: "), "{reason}");
    }
}

#[test]
fn libraries_without_a_function_are_unsupported() {
    let options = NcclOptions { library: Some("libm.so.6".into()), ..options(0, false) };
    let Err(Error::Unsupported(reason)) = options.open(alone()) else { panic!("it has the functions") };
    assert!(reason.starts_with("libm.so.6 has no function ncclGetVersion"), "{reason}");
}

#[test]
fn absent_devices_are_named() {
    let Err(error) = options(100_000, false).open(alone()) else { panic!("there is such a device") };
    let text = "cuDeviceGet(100000) fails: CUDA error 101: invalid device ordinal";
    assert_eq!(error.to_string(), text);
}

fn nccl_itself() -> Option<PathBuf> {
    std::env::var_os("MSLITE_TEST_NCCL").map(PathBuf::from)
}

/// With NCCL itself, as far as that goes without a GPU: all functions are there, and its errors come through.
#[test]
fn nccl_itself_opens() {
    let options = NcclOptions { library: nccl_itself(), ..options(255, false) };
    let nccl = match options.open(alone()) {
        Ok(nccl) => nccl,
        Err(Error::Unsupported(reason)) => {
            println!("skipped: {reason}; MSLITE_TEST_NCCL may name the file of NCCL");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    if let Err(error) = World::over(nccl) {
        assert!(error.to_string().starts_with("ncclCommInitRankConfig fails: "), "{error}");
        println!("as without a GPU: {error}");
    }
}

/// With NCCL itself and a GPU: one rank, whose every operation is a copy.
#[test]
fn a_gpu_at_hand_works() {
    let options = NcclOptions { library: nccl_itself(), compare: true, ..NcclOptions::default() };
    let nccl = match options.open(alone()) {
        Ok(nccl) => nccl,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let world = World::over(nccl.clone()).unwrap();
    let group = world.split("part", Some(0), 0).unwrap().unwrap();
    let send = Tensor::from_vec(vec![1.5f32, -2.0, 8.25], &[3]).unwrap();
    for group in [world.everybody(), group] {
        for kind in ["all_gather", "all_to_all", "broadcast(root=0)", "gather(root=0)", "scatter(root=0)"]
            .into_iter()
            .chain(["all_reduce(mean)", "reduce(max, root=0)", "reduce_scatter(sum)"])
        {
            let mut recv = Tensor::zeros(DType::F32, &[3]).unwrap();
            group.run(kind.parse().unwrap(), &send, &mut recv).unwrap();
            assert_eq!(recv, send, "{kind}");
        }
        group.barrier().unwrap();
    }
    let (buffer, stream) = (nccl.buffer(DType::F32, &[3]).unwrap(), nccl.stream().unwrap());
    buffer.write(&send).unwrap();
    let op = CollectiveOp::new(CollectiveKind::AllReduce(Reduction::Prod), WORLD_GROUP);
    world.everybody().enqueue(&op, &buffer, &buffer, &stream).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(buffer.read().unwrap(), send);
}
