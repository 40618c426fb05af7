//! NCCL, over a stand-in that checks every call and fails when asked to. Conformance is tested in mslite-testkit.

#![allow(clippy::print_stdout, reason = "says what was not tested")]

mod device;

use std::path::PathBuf;

use device::{How, Vendor, alone, cases};
use mslite_collective::nccl::NcclOptions;
use mslite_collective::{CollectiveExt, CollectiveKind, CollectiveOp, Error, Reduction, WORLD_GROUP, World};
use mslite_tensor::{DType, Stream, Tensor};

const VENDOR: &Vendor = &Vendor {
    open: |control, how| options(how).open(control),
    first_function: "ncclGetVersion",
    absent_device: "cuDeviceGet(100000) fails: CUDA error 101: invalid device ordinal",
};

fn options(how: How<'_>) -> NcclOptions {
    let How { device, compare, .. } = how;
    let [library, driver] = [how.library, how.driver].map(|path| Some(path.to_owned()));
    NcclOptions { device, library, driver, compare }
}

cases! { VENDOR }

fn nccl_itself() -> Option<PathBuf> {
    std::env::var_os("MSLITE_TEST_NCCL").map(PathBuf::from)
}

/// With NCCL itself, as far as that goes without a GPU: all functions are there, and its errors come through.
#[test]
fn nccl_itself_opens() {
    let options = NcclOptions { library: nccl_itself(), ..options(How::standin(255, false)) };
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
