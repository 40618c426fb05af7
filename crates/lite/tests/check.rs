//! Slices that do not fit each other: each kind is found from the files, and at run time without that.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::broken::{Slice, f32s, group_file};
use common::models;
use mslite::{
    CheckOptions, CheckReport, Context, DType, Error, ErrorKind, Model, ModelType, Ranks, TransportKind,
    World, check,
};
use mslite_mindir::Value;
use mslite_tensor::Tensor as Data;
use mslite_testkit::cases::discover;

/// How long a rank waits at run time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Slices of all ranks, with what goes with them, and what has to be said about them.
struct Set {
    name: &'static str,
    ranks: Vec<Slice>,
    /// Group files: none, one for all, or one for each rank.
    groups: Vec<Vec<u8>>,
    /// Parts of what is said: the nodes of both ranks among them.
    expected: Vec<&'static str>,
}

impl Set {
    fn new(name: &'static str, ranks: Vec<Slice>, expected: &[&'static str]) -> Set {
        Set { name, ranks, groups: Vec::new(), expected: expected.to_vec() }
    }

    fn with_groups(mut self, groups: &[&[(&str, &[u8])]]) -> Set {
        self.groups = groups.iter().map(|groups| group_file(groups)).collect();
        self
    }

    /// Writes everything to a folder: models and group files.
    fn save(self, folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let save = |(rank, slice): (usize, Slice)| slice.save(&folder.join(format!("rank{rank}.mindir")));
        let models = self.ranks.into_iter().enumerate().map(save).collect();
        let write = |(i, bytes): (usize, &Vec<u8>)| {
            let path = folder.join(format!("groups{i}"));
            std::fs::write(&path, bytes).unwrap();
            path
        };
        (models, self.groups.iter().enumerate().map(write).collect())
    }
}

/// The slices of an example.
fn example(name: &str, ranks: usize) -> Vec<Slice> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models").join(name);
    (0..ranks).map(|rank| Slice::open(&folder.join(format!("rank{rank}.mindir")))).collect()
}

/// The slice of one rank of a model for development.
fn of_case(folder: &Path, case: &str, rank: usize) -> Slice {
    Slice::open(&folder.join("dev").join(case).join(format!("rank{rank}.mindir")))
}

const WORLD: &str = "hccl_world_group";
const UNSTATED: [(&str, Value); 2] = [("rank_list", Value::None), ("group_rank_ids", Value::None)];

/// An AllReduce for another group, whose ranks the model does not state.
fn in_group(slice: Slice, n: usize, group: &str) -> Slice {
    slice.set(n, &[("group", group.into())]).set(n, &UNSTATED)
}

fn send(dest: i64) -> [(&'static str, Value); 3] {
    [("dest_rank", dest.into()), ("sr_tag", 0i64.into()), ("group", WORLD.into())]
}

fn receive(src: i64, elements: i64) -> [(&'static str, Value); 5] {
    let shape = Value::List(vec![elements.into()]);
    [
        ("src_rank", src.into()),
        ("sr_tag", 0i64.into()),
        ("group", WORLD.into()),
        ("shape", shape),
        ("dtype", f32s()),
    ]
}

/// Each of two ranks sends to the other, and receives from it.
fn both(elements: i64, send_first: bool) -> Vec<Slice> {
    let rank = |other: i64| {
        let (send, receive) = (send(other), receive(other, elements));
        let mut steps = vec![("Send", &send[..]), ("Receive", &receive[..])];
        if !send_first {
            steps.reverse();
        }
        Slice::of_vector(elements, &steps)
    };
    vec![rank(1), rank(0)]
}

/// Sets made from the examples, and from scratch.
fn sets_of_examples() -> Vec<Set> {
    let pair = || <[Slice; 2]>::try_from(example("matmul_row_tp2", 2)).unwrap_or_else(|_| panic!());
    let four = || example("matmul_row_tp4", 4);
    let grouped = || pair().map(|slice| slice.set(0, &[("group", "tp".into())]));
    let sum = "has all_reduce(sum) of 128 f32 in ranks [0, 1] at Default/AllReduce-op0";
    let mut sets = Vec::new();
    let mut add = |set: Set| sets.push(set);

    let [a, b] = pair();
    let b = b.set(0, &[("op", "max".into())]);
    add(Set::new("other reduction", vec![a, b], &[sum, "rank 1 has all_reduce(max) of 128 f32"]));

    let [a, b] = pair();
    let again = "Default/AllReduce-op0-again";
    add(Set::new("one more collective", vec![a, b.again(0)], &["operation 1", again, "rank 0 has none"]));

    let [a, b] = pair();
    let b = in_group(b, 0, "other");
    let expected = &["rank 0 has all_reduce(sum)", "rank 1 has none (it has all_reduce(sum)"];
    add(Set::new("wrong group name", vec![a, b], expected).with_groups(&[&[("other", &[0, 1])]]));

    let [a, b] = pair().map(|slice| in_group(slice, 0, "tp"));
    let expected = &["ranks of group \"tp\" are not known", "group file", "Default/AllReduce-op0"];
    add(Set::new("group that no file has", vec![a.clone(), b.clone()], expected));
    let expected = &["group \"tp\" of ranks [0] does not have rank 1", "Default/AllReduce-op0"];
    add(Set::new("group without this rank", vec![a.clone(), b.clone()], expected)
        .with_groups(&[&[("tp", &[0])]]));
    let expected = &["ranks [0, 1] at Default/AllReduce-op0", "ranks [1, 0] at Default/AllReduce-op0"];
    add(Set::new("group files of other orders", vec![a, b], expected)
        .with_groups(&[&[("tp", &[0, 1])], &[("tp", &[1, 0])]]));
    let expected = &["order [1, 0], but the model was sliced for the order [0, 1]"];
    add(Set::new("group file of another order than the model", grouped().to_vec(), expected)
        .with_groups(&[&[("tp", &[1, 0])]]));

    add(Set::new("wrong number of ranks", four()[..2].to_vec(), &["sliced for 4 ranks, but there are 2"]));

    let root = |root: i64| [("root_rank", root.into()), ("group", WORLD.into())];
    let [a, b] = pair();
    let ranks = vec![a.become_op(0, "Broadcast", &root(0)), b.become_op(0, "Broadcast", &root(1))];
    let expected = &["rank 0 has broadcast(root=0)", "rank 1 has broadcast(root=1)", "Default/Broadcast-op0"];
    add(Set::new("other root", ranks, expected));

    let [a, b] = pair();
    let expected = &[sum, "rank 1 has broadcast(root=0)", "at Default/Broadcast-op0"];
    add(Set::new("other kind", vec![a, b.become_op(0, "Broadcast", &root(0))], expected));

    let [a, b] = pair();
    let expected = &["rank 0 has broadcast(root=2)", "rank 2 of a group of 2"];
    add(Set::new("root outside of the group", vec![a.become_op(0, "Broadcast", &root(2)), b], expected));

    // Rank 0 waits for rank 1 in ab, which waits for rank 2 in bc, which waits for rank 0 in ca.
    let chain =
        |slice: &Slice, first, second| in_group(in_group(slice.clone().again(0), 0, first), 1, second);
    let slices = four();
    let ranks =
        vec![chain(&slices[0], "ab", "ca"), chain(&slices[1], "bc", "ab"), chain(&slices[2], "ca", "bc")];
    let expected = &["circle", "waiting for rank 1, at Default/AllReduce-op0", "waiting for rank 0, at"];
    add(Set::new("circle of three ranks", ranks, expected).with_groups(&[&[
        ("ab", &[0, 1]),
        ("bc", &[1, 2]),
        ("ca", &[2, 0]),
    ]]));

    let waiting = &[
        "circle",
        "rank 0 has receive(src=1, tag=0)",
        "rank 1 has receive(src=0, tag=0)",
        "at Default/Receive-op0",
    ];
    add(Set::new("both receive first", both(16, false), waiting));
    let waiting = &[
        "circle",
        "rank 0 has send(dest=1, tag=0) of 100000 f32",
        "waiting for rank 0, at Default/Send-op0",
    ];
    add(Set::new("both send much first", both(100_000, true), waiting));

    let ranks = vec![
        Slice::of_vector(16, &[("Send", &send(1))]),
        Slice::of_vector(16, &[("Receive", &receive(0, 15))]),
    ];
    let expected =
        &["rank 0 has send(dest=1, tag=0) of 16 f32", "rank 1 has receive(src=0, tag=0) of 15 f32"];
    add(Set::new("message of another size", ranks, expected));

    let branch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_flow/scalarif.mindir");
    let branch = Slice::open(&branch);
    let (one_way, always) = (branch.number("✓"), 0);
    let expected = &[
        "in one way of the branch",
        "at Default/AllReduce-",
        "rank 1 has all_reduce(sum) of 3 f32 in ranks [0, 1] at Default/AllReduce-0",
    ];
    add(Set::new(
        "in one way of a branch only",
        vec![branch.clone().summing(one_way), branch.clone().summing(always)],
        expected,
    ));

    let expected = &["in the loop", "Default/AllReduce-in-loop", "Default/AllReduce-after-loop"];
    add(Set::new("in a loop only", vec![Slice::looping(true), Slice::looping(false)], expected));
    sets
}

/// Sets made from models that MindSpore has sliced.
fn sets_of_corpus(folder: &Path) -> Vec<Set> {
    let case = |name: &str| [of_case(folder, name, 0), of_case(folder, name, 1)];
    let mut sets = Vec::new();
    let mut add = |set: Set| sets.push(set);

    let [a, b] = case("d_reduces_tp2");
    let expected = &[
        "operation 1",
        "rank 0 has all_reduce(max) of 4 f32 in ranks [0, 1] at Default/AllReduce-op1",
        "rank 1 has all_reduce(min) of 4 f32 in ranks [0, 1] at Default/AllReduce-op2",
    ];
    add(Set::new("other order", vec![a.clone(), b.clone().later(1)], expected));
    let expected = &["operation 1", "Default/AllReduce-op1", "rank 1 has all_reduce(min)"];
    add(Set::new("missing collective", vec![a.clone(), b.clone().without(1)], expected));
    let expected = &["operation 3", "Default/AllReduce-op3", "rank 1 has none"];
    add(Set::new("missing last collective", vec![a, b.without(3)], expected));

    let ranks = vec![of_case(folder, "d_mlp_tp2", 0), of_case(folder, "d_mlp_tp2_fp16", 1)];
    add(Set::new(
        "other dtype",
        ranks,
        &[" f32 in ranks [0, 1] at Default/", " f16 in ranks [0, 1] at Default/"],
    ));

    let ranks = vec![of_case(folder, "d_matmul_row_tp2", 0), of_case(folder, "d_mlp_tp2", 1)];
    add(Set::new(
        "other count",
        ranks,
        &["rank 0 has all_reduce(sum) of 128 f32", "rank 1 has all_reduce(sum) of"],
    ));

    let ranks = vec![of_case(folder, "d_matmul_row_tp2", 0), of_case(folder, "d_gpt2_tp2_fp32", 1)];
    add(Set::new(
        "slices of two models",
        ranks,
        &["Default/AllReduce-op0", "rank 1 has reduce_scatter(sum)"],
    ));

    let [a, b] = case("d_matmul_rs_tp2");
    let three = [("rank_size", 3i64.into())];
    let ranks = [&a, &b].map(|slice| slice.clone().set(0, &three).set(0, &UNSTATED)).to_vec();
    add(Set::new("rows that cannot be divided", ranks, &["8 rows cannot be divided among 3 ranks"]));
    let four = [("rank_size", 4i64.into())];
    add(Set::new("wrong rank_size", vec![a, b.set(1, &four).set(1, &UNSTATED)], &["AllGather", "rank 1"]));

    let [a, b] = case("d_pipeline_pp2");
    let (sends, receives) = ("Default/Send-op", "Default/Receive-op");
    let expected =
        &["rank 0 has receive", receives, "which names this rank itself", "rank 1 has send", sends];
    add(Set::new("stages exchanged", vec![b.clone(), a.clone()], expected));
    let expected = &["rank 1 has send(dest=1, tag=0)", "this rank itself"];
    add(Set::new("one stage twice", vec![a.clone(), a.clone()], expected));
    let expected =
        &["message 1 with tag 0 from rank 0 to rank 1", "Default/Send-op0-again", "rank 1 has none"];
    add(Set::new("message that nobody receives", vec![a.clone().again(0), b.clone()], expected));
    let expected =
        &["rank 0 has send(dest=1, tag=", "rank 1 has none (it has receive(src=0, tag=7)", receives];
    add(Set::new("other tag", vec![a.clone(), b.clone().set(0, &[("sr_tag", 7i64.into())])], expected));
    let expected = &["rank 0 has send", "rank 1 has none"];
    add(Set::new("message to another group", vec![a.set(0, &[("group", "other".into())]), b], expected)
        .with_groups(&[&[("other", &[0, 1])]]));
    sets
}

fn check_set(models: &[PathBuf], groups: &[PathBuf]) -> mslite::Result<CheckReport> {
    let mut options = CheckOptions::default();
    options.group_info_files = groups.to_vec();
    check(models, &options)
}

/// Runs the ranks as threads: what comes of each.
fn run(models: &[PathBuf], groups: &[PathBuf]) -> Vec<Result<(), Error>> {
    let worlds = World::threads(models.len(), TIMEOUT).unwrap();
    std::thread::scope(|scope| {
        let start = |(world, model): (World, &PathBuf)| {
            let groups = groups.get(world.rank()).or(groups.first()).cloned();
            let model = model.clone();
            scope.spawn(move || run_rank(&model, world, groups))
        };
        let threads: Vec<_> = worlds.into_iter().zip(models).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn run_rank(path: &Path, world: World, groups: Option<PathBuf>) -> Result<(), Error> {
    let mut context = Context::new();
    context.cpu.thread_num = 1;
    context.ranks = Ranks::World(Arc::new(world));
    context.group_info_file = groups;
    let model = Model::build_from_file(path, ModelType::MindIr, &context)?;
    let mut inputs = model.inputs();
    for input in &mut inputs {
        let dims: Vec<usize> = input.shape().iter().map(|&n| n as usize).collect();
        input.set_tensor(Data::zeros(input.dtype(), &dims)?)?;
    }
    model.predict(&inputs).map(drop)
}

/// What is wrong with how a set is found, if anything.
fn faults(set: Set) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (name, expected) = (set.name, set.expected.clone());
    let (models, groups) = set.save(folder.path());
    let mut faults = Vec::new();
    match check_set(&models, &groups) {
        Err(error) => faults.push(format!("{name}: it is not found, but {error:?}")),
        Ok(CheckReport { disagreement: None, .. }) => faults.push(format!("{name}: it fits")),
        Ok(CheckReport { disagreement: Some(found), .. }) => {
            let text = found.to_string();
            let missing = expected.iter().filter(|part| !text.contains(**part));
            faults.extend(missing.map(|part| format!("{name}: {part:?} is not in: {text}")));
        }
    }
    for (rank, result) in run(&models, &groups).into_iter().enumerate() {
        let is_true = |error: &Error| {
            use ErrorKind::{InvalidArgument, InvalidModel, PeerLost, PlanMismatch};
            matches!(error.kind(), PlanMismatch | InvalidModel | InvalidArgument | PeerLost)
        };
        match result {
            Ok(()) => faults.push(format!("{name}: rank {rank} runs")),
            Err(error) if !is_true(&error) => faults.push(format!("{name}: rank {rank}: {error:?}")),
            Err(_) => {}
        }
    }
    faults
}

fn assert_found(sets: Vec<Set>, least: usize) {
    let count = sets.len();
    assert!(count >= least, "{count}");
    let faults: Vec<String> = sets.into_iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "of {count} sets:\n{}", faults.join("\n"));
}

#[test]
fn broken_sets_of_examples_are_found_before_and_at_run_time() {
    assert_found(sets_of_examples(), 15);
}

#[test]
fn broken_sets_of_sliced_models_are_found_before_and_at_run_time() {
    let Some(folder) = models() else { return };
    assert_found(sets_of_corpus(&folder), 12);
}

#[test]
fn a_slice_that_is_missing_is_named_and_the_others_end() {
    let folder = tempfile::tempdir().unwrap();
    let slices = example("matmul_row_tp2", 1).into_iter();
    let there = slices.map(|slice| slice.save(&folder.path().join("rank0.mindir")));
    let models: Vec<PathBuf> = there.chain([folder.path().join("rank1.mindir")]).collect();
    let error = check_set(&models, &[]).unwrap_err();
    assert!(
        error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("rank1.mindir"),
        "{error}"
    );
    let kinds: Vec<_> = run(&models, &[]).into_iter().map(|result| result.unwrap_err().kind()).collect();
    assert_eq!(kinds, [ErrorKind::PeerLost, ErrorKind::InvalidArgument]);
}

#[test]
fn a_slice_of_another_rank_is_known_by_its_number() {
    let Some(folder) = models() else { return };
    let path = |rank| folder.join(format!("format/distributed/collective_scatter_rank{rank}.mindir"));
    assert!(check(&[path(0), path(1)], &CheckOptions::default()).unwrap().fits());
    let found = check(&[path(0), path(0)], &CheckOptions::default()).unwrap().disagreement.unwrap();
    assert!(found.what.starts_with("rank 1 ") && found.what.contains("sliced for rank 0"), "{found}");
    assert!(found.sides[0].node.as_deref().unwrap().contains("CollectiveScatter"), "{found}");
}

#[test]
fn slices_that_fit_pass() {
    let Some(folder) = models() else { return };
    let mut count = 0;
    for case in discover(folder.join("dev")).unwrap().iter().filter(|case| case.models.len() > 1) {
        let report = check(&case.models, &CheckOptions::default()).unwrap();
        assert!(report.fits() && !report.collectives.is_empty(), "{}: {:?}", case.name, report.disagreement);
        assert!(report.needs_kept_messages.is_none(), "{}", case.name);
        count += 1;
    }
    assert!(count >= 25, "{count}");
    let groups = tempfile::tempdir().unwrap();
    std::fs::write(groups.path().join("groups"), group_file(&[("sub0", &[0, 1])])).unwrap();
    let mut options = CheckOptions::default();
    options.group_info_files = vec![groups.path().join("groups")];
    for entry in std::fs::read_dir(folder.join("format/distributed")).unwrap() {
        let first = entry.unwrap().path().to_string_lossy().into_owned();
        if first.ends_with("_rank0.mindir") {
            let report = check(&[first.clone(), first.replace("_rank0.", "_rank1.")], &options).unwrap();
            assert!(report.fits() && report.notes.len() < 3, "{first}: {report:?}");
        }
    }
}

#[test]
fn the_report_says_what_is_exchanged() {
    let Some(folder) = models() else { return };
    let case = |rank| folder.join(format!("dev/d_pipeline_pp2/rank{rank}.mindir"));
    let report = check(&[case(0), case(1)], &CheckOptions::default()).unwrap();
    let first = &report.collectives[0];
    assert_eq!(
        (first.kind.as_str(), &first.ranks[..], first.bytes),
        ("message(tag=0)", &[0, 1][..], Some(192))
    );
    let last = report.collectives.last().unwrap();
    assert_eq!(
        (last.kind.as_str(), last.dtype, last.count.as_deref()),
        ("all_reduce(sum)", Some(DType::F32), Some("96"))
    );
    assert_eq!(last.node, "Default/AllReduce-op0");
    // Two messages of 192 bytes, and a ring over two ranks: half of 384 bytes, twice.
    assert_eq!(report.sent, [768, 384]);
}

#[test]
fn messages_that_have_to_be_kept_are_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let set = Set::new("both send little first", both(16, true), &[]);
    let (models, groups) = set.save(folder.path());
    let report = check_set(&models, &groups).unwrap();
    assert!(report.fits());
    assert_eq!(report.needs_kept_messages.unwrap().sides.len(), 2);
    run(&models, &groups).into_iter().for_each(|result| result.unwrap());
}

#[test]
fn how_long_kept_messages_may_be_depends_on_the_transport() {
    let folder = tempfile::tempdir().unwrap();
    // 64 KiB: shared memory keeps them, MPI does not.
    let set = Set::new("both send more first", both(16 << 10, true), &[]);
    let (models, groups) = set.save(folder.path());
    let check_for = |transport: Option<TransportKind>| {
        let mut options = CheckOptions::default();
        (options.group_info_files, options.transport) = (groups.clone(), transport);
        check(&models, &options).unwrap()
    };
    let shared = check_for(Some(TransportKind::SharedMemory));
    assert!(shared.fits() && shared.needs_kept_messages.is_some(), "{shared:?}");
    for transport in [None, Some(TransportKind::Mpi)] {
        let report = check_for(transport);
        let found = report.disagreement.as_ref().unwrap().to_string();
        assert!(found.contains("circle"), "{found}");
        assert!(
            report.notes.iter().any(|note| note.contains("fit each other over the transport `shared`")),
            "{report:?}"
        );
    }
    run(&models, &groups).into_iter().for_each(|result| result.unwrap());
}

#[test]
fn one_slice_for_two_ranks_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut slices = example("matmul_row_tp4", 4);
    slices[2] = slices[1].clone();
    let (models, _) = Set::new("", slices, &[]).save(folder.path());
    let report = check_set(&models, &[]).unwrap();
    assert!(report.fits());
    assert!(report.notes[0].starts_with("ranks 1 and 2 seem to have the same weights"), "{report:?}");
}

#[test]
fn data_that_decide_are_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let branch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_flow/scalarif.mindir");
    let branch = Slice::open(&branch);
    let slice = branch.clone().summing(branch.number("✓"));
    let (models, _) = Set::new("", vec![slice.clone(), slice], &[]).save(folder.path());
    let report = check_set(&models, &[]).unwrap();
    assert!(report.fits() && report.collectives[0].conditional, "{report:?}");
    assert!(
        report.notes.iter().any(|note| note.starts_with("1 of 1 exchanges stand in branches")),
        "{report:?}"
    );
}

#[test]
fn loops_that_fit_are_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    let set = Set::new("", vec![Slice::looping(true), Slice::looping(true)], &[]);
    let (models, groups) = set.save(folder.path());
    let report = check_set(&models, &groups).unwrap();
    assert!(
        report.fits() && report.collectives.len() == 1 && report.collectives[0].conditional,
        "{report:?}"
    );
    run(&models, &groups).into_iter().for_each(|result| result.unwrap());
}

#[test]
fn extents_that_are_not_known_are_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let sum = [("op", "sum".into()), ("group", WORLD.into())];
    let slice = Slice::of_vector(-1, &[("AllReduce", &sum)]);
    let (models, _) = Set::new("", vec![slice.clone(), slice], &[]).save(folder.path());
    let report = check_set(&models, &[]).unwrap();
    assert!(report.fits() && report.notes.iter().any(|note| note.contains("same extents")), "{report:?}");
    assert!(report.collectives[0].bytes.is_none() && report.collectives[0].count.is_some(), "{report:?}");
}

#[test]
fn rank_tables_have_the_ranks_of_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let (models, _) = Set::new("", example("matmul_row_tp2", 2), &[]).save(folder.path());
    let device = |rank: usize| {
        format!(
            r#"{{"server_id": "{rank}", "device": [{{"device_id": 0, "device_ip": "10.0.0.{rank}", "rank_id": {rank}}}]}}"#
        )
    };
    let check_with = |ranks: usize| {
        let servers: Vec<String> = (0..ranks).map(device).collect();
        let path = folder.path().join("table.json");
        let text =
            format!(r#"{{"version": "1.0", "status": "completed", "server_list": [{}]}}"#, servers.join(","));
        std::fs::write(&path, text).unwrap();
        let mut options = CheckOptions::default();
        options.rank_table = Some(path);
        check(&models, &options).unwrap()
    };
    let report = check_with(2);
    assert!(
        report.fits() && report.notes.iter().any(|note| note.ends_with("is spread over 2 servers")),
        "{report:?}"
    );
    let found = check_with(3).disagreement.unwrap();
    assert!(found.what.contains("the rank table has 3 ranks, but there are 2 models"), "{found}");
}
