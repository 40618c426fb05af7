//! HCCL, over a stand-in that checks every call and fails when asked to. Conformance is tested in mslite-testkit.

mod device;

use std::path::PathBuf;

use device::{PATIENCE, Rank, cases, standins};
use mslite_collective::hccl::HcclOptions;
use mslite_collective::{CollectiveExt, DeviceTransport, Error, Reduction, Result, World};

fn make(control: World, device: usize, compare: bool) -> Result<Rank> {
    let hccl = options(device, compare).open(control)?;
    let world = World::over(hccl.clone())?;
    let streams = hccl.clone();
    Ok(Rank {
        world,
        stream: Box::new(move || streams.stream()),
        buffer: Box::new(move |dtype, dims| hccl.buffer(dtype, dims)),
    })
}

fn options(device: usize, compare: bool) -> HcclOptions {
    let library = Some(standins().path().to_owned());
    HcclOptions { device, library: library.clone(), driver: library, compare, ..HcclOptions::default() }
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

/// Ranks of a table, each with what `work` gives.
fn on_table<R: Send>(
    size: usize,
    table: &str,
    first_device: usize,
    work: impl Fn(&DeviceTransport, Result<World>) -> R + Sync,
) -> Vec<R> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.json");
    std::fs::write(&path, table).unwrap();
    let worlds = World::threads(size, PATIENCE).unwrap();
    std::thread::scope(|scope| {
        let (work, path) = (&work, &path);
        let rank = move |control: World| {
            let device = first_device + control.rank();
            let options = HcclOptions { rank_table: Some(path.clone()), ..options(device, true) };
            let hccl = options.open(control).unwrap();
            work(&hccl, World::over(hccl.clone()))
        };
        let threads: Vec<_> = worlds.into_iter().map(|world| scope.spawn(move || rank(world))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The text differs from run to run, since the stand-in's ranks meet by it.
fn table(size: usize, status: &str) -> String {
    let device = |rank: usize| format!(r#"{{"device_id": "{rank}", "rank_id": "{rank}"}}"#);
    let devices: Vec<String> = (0..size).map(device).collect();
    let server = format!("{}-{status}-{size}", std::process::id());
    format!(
        r#"{{"version": "1.0", "server_count": "1", "status": "{status}",
            "server_list": [{{"server_id": "{server}", "device": [{}]}}]}}"#,
        devices.join(", ")
    )
}

#[test]
fn rank_tables_make_worlds() {
    let names = on_table(3, &table(3, "completed"), 200, |hccl, world| {
        let world = world.unwrap();
        let mut data = [world.rank() as f32; 5];
        world.everybody().all_reduce(&mut data, Reduction::Sum).unwrap();
        assert_eq!(data, [3.0; 5]);
        let pair = (world.rank() < 2).then(|| world.group("pair", &[0, 1]).unwrap());
        let names = [hccl.name_of(&"hccl_world_group".into()), hccl.name_of(&"pair".into())];
        world.everybody().barrier().unwrap();
        drop(pair);
        names
    });
    assert!(names[0][0].is_some() && names[0][0] != names[0][1]);
    assert_eq!(names[0], names[1]);
    assert_eq!(names[2], [names[0][0].clone(), None]);
    assert_eq!(standins().violations(), "");
}

#[test]
fn rank_tables_that_do_not_fit_are_errors() {
    let unfinished = on_table(2, &table(2, "initializing"), 210, |_, world| world.map(drop));
    let larger = on_table(2, &table(3, "completed"), 220, |_, world| world.map(drop));
    for (rank, result) in unfinished.into_iter().chain(larger).enumerate() {
        let error = result.unwrap_err();
        let fits = matches!(error, Error::Library { .. } | Error::PeerLost { .. } | Error::Timeout { .. });
        assert!(fits, "rank {rank}: {error}");
    }
}

fn alone() -> World {
    World::threads(1, PATIENCE).unwrap().remove(0)
}

#[test]
fn absent_libraries_are_unsupported() {
    let nowhere = PathBuf::from("/nonexistent/libhccl.so");
    let without_hccl = HcclOptions { library: Some(nowhere.clone()), ..options(0, false) };
    let without_driver = HcclOptions { driver: Some(nowhere), ..options(0, false) };
    for options in [without_hccl, without_driver] {
        let Err(Error::Unsupported(reason)) = options.open(alone()) else { panic!("it is there") };
        assert!(reason.contains("/nonexistent/libhccl.so: "), "{reason}");
    }
}

#[test]
fn libraries_without_a_function_are_unsupported() {
    let options = HcclOptions { library: Some("libm.so.6".into()), ..options(0, false) };
    let Err(Error::Unsupported(reason)) = options.open(alone()) else { panic!("it has the functions") };
    assert!(reason.starts_with("libm.so.6 has no function HcclGetRootInfo"), "{reason}");
}

#[test]
fn absent_devices_are_named() {
    let Err(error) = options(100_000, false).open(alone()) else { panic!("there is such a device") };
    assert_eq!(error.to_string(), "aclrtSetDevice(100000) fails: AscendCL error 100000");
}
