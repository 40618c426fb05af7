//! HCCL, over a stand-in that checks every call and fails when asked to. Conformance is tested in mslite-testkit.

mod device;

use device::{How, PATIENCE, Vendor, cases, standins};
use mslite_collective::hccl::HcclOptions;
use mslite_collective::{CollectiveExt, DeviceTransport, Error, Reduction, Result, World};

const VENDOR: &Vendor = &Vendor {
    open: |control, how| options(how).open(control),
    first_function: "HcclGetRootInfo",
    absent_device: "aclrtSetDevice(100000) fails: AscendCL error 100000",
};

fn options(how: How<'_>) -> HcclOptions {
    let How { device, compare, .. } = how;
    let [library, driver] = [how.library, how.driver].map(|path| Some(path.to_owned()));
    HcclOptions { device, library, driver, compare, ..HcclOptions::default() }
}

cases! { VENDOR }

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
            let options =
                HcclOptions { rank_table: Some(path.clone()), ..options(How::standin(device, true)) };
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
