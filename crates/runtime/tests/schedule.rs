//! Schedules of several ranks, compared.

use std::time::Duration;

use mslite_collective::CollectiveKind::{self, AllGather, AllReduce, Receive, Send};
use mslite_collective::{CollectiveExt, CollectiveOp, Reduction, SEND_CAPACITY, World};
use mslite_graph_opt::ir::op::{Collective, If, Loop};
use mslite_graph_opt::{Graph, GraphBuilder, Op, ValueId};
use mslite_runtime::schedule::{Disagreement, GroupRanks, Schedule, Sends, Step, compare, group_ranks};
use mslite_runtime::{ErrorKind, Result};
use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

const SUM: CollectiveKind = AllReduce(Reduction::Sum);

/// One step of a rank's model; data have as many elements as are given.
#[derive(Debug, Clone)]
enum Do {
    In(&'static str, CollectiveKind, usize),
    Either(Vec<Do>, Vec<Do>),
    Turns(Vec<Do>),
}

fn world(kind: CollectiveKind, elements: usize) -> Do {
    Do::In("hccl_world_group", kind, elements)
}

fn send(dest: usize, tag: i64) -> Do {
    world(Send { dest, tag }, 4)
}

fn receive(src: usize, tag: i64) -> Do {
    world(Receive { src, tag }, 4)
}

fn append(builder: &mut GraphBuilder, condition: ValueId, steps: &[Do], place: &str) {
    for (i, step) in steps.iter().enumerate() {
        let origin = format!("{place}{i}").into();
        let operands: &[ValueId] = &[condition];
        match step {
            Do::In(group, kind, elements) => {
                let spec = TensorSpec::fixed(DType::F32, &[*elements]);
                let x = builder.constant("", Tensor::zeros(DType::F32, &[*elements]).unwrap());
                let op = CollectiveOp::new(kind.clone(), *group);
                let op = Collective { op, size: None, ranks: None, receives: Some(spec) };
                let op = Collective { size: matches!(kind, AllGather).then_some(2), ..op };
                let operands = &[x][..op.arity().0];
                builder.push(Op::Collective(op), operands, &origin).unwrap();
            }
            Do::Either(then, otherwise) => {
                let ways = [then, otherwise].map(|way| body(way, &format!("{origin}/"), false).into());
                let [then, otherwise] = ways;
                builder.push(Op::If(If { then, otherwise }), operands, &origin).unwrap();
            }
            Do::Turns(turn) => {
                let body = body(turn, &format!("{origin}/"), true).into();
                builder.push(Op::Loop(Loop { body, carried: 0 }), &[condition][..0], &origin).unwrap();
            }
        }
    }
}

/// A graph for an operation; that of a loop says itself whether it goes on.
fn body(steps: &[Do], place: &str, of_loop: bool) -> Graph {
    let mut builder = GraphBuilder::new("body");
    let condition = builder.constant("", Tensor::from_vec(vec![false], &[]).unwrap());
    append(&mut builder, condition, steps, place);
    if of_loop {
        builder.output("again", condition);
    }
    builder.finish().unwrap()
}

fn graph(steps: &[Do]) -> Graph {
    let mut builder = GraphBuilder::new("g");
    let condition = builder.input("c", TensorSpec::fixed(DType::Bool, &[]));
    append(&mut builder, condition, steps, "");
    builder.finish().unwrap()
}

fn schedule(rank: usize, size: usize, given: &GroupRanks, steps: &[Do]) -> Result<Schedule> {
    let graph = graph(steps);
    let groups = group_ranks(&graph, given, rank, size)?;
    let schedule = Schedule::new(&graph, &groups, rank)?;
    assert_eq!(Schedule::decode(&schedule.encode()).as_ref(), Some(&schedule));
    Ok(schedule)
}

fn schedules(given: &[(&str, &[usize])], ranks: &[Vec<Do>]) -> Vec<Schedule> {
    let given = given.iter().map(|(name, ranks)| ((*name).into(), ranks.to_vec())).collect();
    ranks.iter().enumerate().map(|(r, steps)| schedule(r, ranks.len(), &given, steps).unwrap()).collect()
}

fn disagreement(given: &[(&str, &[usize])], ranks: &[Vec<Do>], sends: Sends) -> Disagreement {
    compare(&schedules(given, ranks), sends).unwrap_err()
}

const KEEP: Sends = Sends::Keep(1 << 10);

#[test]
fn what_happens_is_listed_in_an_order_in_which_it_can() {
    let ranks = [vec![send(1, 0), world(SUM, 6)], vec![receive(0, 0), world(SUM, 6)]];
    let schedules = schedules(&[], &ranks);
    for sends in [Sends::Wait, KEEP] {
        let events = compare(&schedules, sends).unwrap();
        let texts: Vec<String> = events.iter().map(|event| event.exchange.to_string()).collect();
        let expected =
            ["receive(src=0, tag=0) of 4 f32 in ranks [0, 1]", "all_reduce(sum) of 6 f32 in ranks [0, 1]"];
        assert_eq!(texts, expected);
    }
}

#[test]
fn the_first_difference_is_named_with_both_nodes() {
    let cases = [
        (
            vec![world(SUM, 6), world(AllGather, 2)],
            "operation 1 of group \"hccl_world_group\": rank 0 has all_gather of 2 f32 in ranks [0, 1] at 1, rank 1 has none;",
        ),
        (vec![world(AllReduce(Reduction::Max), 6)], "operation 0"),
        (
            vec![world(SUM, 7)],
            "rank 0 has all_reduce(sum) of 7 f32 in ranks [0, 1] at 0, rank 1 has all_reduce(sum) of 6",
        ),
        (
            vec![],
            "operation 0 of group \"hccl_world_group\": rank 1 has all_reduce(sum) of 6 f32 in ranks [0, 1] at 0, rank 0 has none;",
        ),
    ];
    for (steps, expected) in cases {
        let found = disagreement(&[], &[steps, vec![world(SUM, 6)]], KEEP);
        assert!(found.to_string().contains(expected), "{found}");
        assert_eq!(mslite_runtime::Error::from(found).kind(), ErrorKind::PlanMismatch);
    }
}

#[test]
fn a_rank_without_its_part_is_said_to_do_something_else() {
    let in_other = vec![Do::In("other", SUM, 6)];
    let found = disagreement(&[("other", &[0, 1])], &[vec![world(SUM, 6)], in_other], KEEP);
    let text = found.to_string();
    assert!(text.contains("rank 0 has all_reduce(sum) of 6 f32 in ranks [0, 1] at 0"), "{text}");
    assert!(
        text.contains("rank 1 has none (it has all_reduce(sum) of 6 f32 in ranks [0, 1] at 0)"),
        "{text}"
    );
    let found = disagreement(&[], &[vec![send(1, 7)], vec![world(SUM, 2), receive(0, 8)]], KEEP);
    assert!(found.to_string().contains("rank 1 has none (it has"), "{found}");
}

#[test]
fn one_name_may_stand_for_groups_without_a_common_rank() {
    let pair = |ranks: &[usize]| GroupRanks::from([("pair".into(), ranks.to_vec())]);
    let both = |rank: usize, kind: &CollectiveKind| {
        let ranks: &[usize] = if rank < 2 { &[0, 1] } else { &[2, 3] };
        schedule(rank, 4, &pair(ranks), &[Do::In("pair", kind.clone(), 3)]).unwrap()
    };
    let all: Vec<Schedule> = (0..4).map(|rank| both(rank, &SUM)).collect();
    assert_eq!(compare(&all, Sends::Wait).unwrap().len(), 2);
    let mut other = all;
    other[3] = both(3, &AllReduce(Reduction::Max));
    let text = compare(&other, Sends::Wait).unwrap_err().to_string();
    assert!(
        text.contains("rank 2 has all_reduce(sum)") && text.contains("rank 3 has all_reduce(max)"),
        "{text}"
    );
    other[3] = schedule(3, 4, &pair(&[3, 2]), &[Do::In("pair", SUM, 3)]).unwrap();
    let text = compare(&other, Sends::Wait).unwrap_err().to_string();
    assert!(text.contains("ranks [2, 3]") && text.contains("ranks [3, 2]"), "{text}");
}

#[test]
fn names_of_the_world_are_one() {
    let ranks = [vec![Do::In("nccl_world_group", SUM, 3)], vec![Do::In("mccl_world_group", SUM, 3)]];
    compare(&schedules(&[], &ranks), Sends::Wait).unwrap();
}

#[test]
fn groups_contradict_neither_the_model_nor_the_world() {
    let check = |ranks: &[usize], rank, stated: Option<Vec<usize>>| {
        let mut builder = GraphBuilder::new("g");
        let x = builder.input("x", TensorSpec::fixed(DType::F32, &[2]));
        let op = CollectiveOp::new(SUM, "g");
        let op = Collective { op, size: Some(2), ranks: stated, receives: None };
        builder.push(Op::Collective(op), &[x], &"Default/AllReduce".into()).unwrap();
        let given = GroupRanks::from([("g".into(), ranks.to_vec())]);
        let groups = group_ranks(&builder.finish().unwrap(), &given, rank, 3);
        groups.map_err(|error| error.to_string())
    };
    assert!(check(&[2, 0], 0, None).is_ok());
    // The ranks of the model are those of where it was sliced: only their order counts.
    assert!(check(&[0, 2], 0, Some(vec![8, 9])).is_ok());
    for (ranks, rank, stated, expected) in [
        (&[0, 1, 2][..], 0, None, "sliced for 2 ranks of group \"g\", but there are 3"),
        (&[0, 1], 2, None, "does not have rank 2, which uses it (node Default/AllReduce)"),
        (&[0, 3], 0, None, "has rank 3, but there are 3 ranks"),
        (&[1, 1], 1, None, "has a rank twice"),
        (&[1, 0], 0, Some(vec![0, 1]), "in the order [1, 0], but the model was sliced for the order [0, 1]"),
        (&[0, 1], 0, Some(vec![0, 1, 2]), "sliced for 3 ranks"),
    ] {
        let error = check(ranks, rank, stated).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = schedule(0, 2, &GroupRanks::new(), &[Do::In("g", SUM, 2)]).unwrap_err().to_string();
    assert!(error.contains("the ranks of group \"g\" are not known; give a group file"), "{error}");
}

#[test]
fn swapped_pipeline_stages_are_noticed_by_one_rank_alone() {
    let none = GroupRanks::new();
    for step in [receive(0, 0), send(2, 0), world(CollectiveKind::Broadcast { root: 2 }, 4)] {
        assert_eq!(schedule(0, 2, &none, &[step]).unwrap_err().kind(), ErrorKind::PlanMismatch);
    }
}

#[test]
fn circles_are_found_with_all_their_ranks() {
    // Each of three groups of two waits for the next.
    let groups: &[(&str, &[usize])] = &[("ab", &[0, 1]), ("bc", &[1, 2]), ("ca", &[2, 0])];
    let steps = |first, second| vec![Do::In(first, SUM, 3), Do::In(second, SUM, 3)];
    let ranks = [steps("ab", "ca"), steps("bc", "ab"), steps("ca", "bc")];
    for sends in [Sends::Wait, KEEP] {
        let found = disagreement(groups, &ranks, sends);
        assert!(found.what.contains("circle"), "{found}");
        assert_eq!(found.sides.iter().map(|side| side.rank).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(found.to_string().contains("waiting for rank 1, at 0"), "{found}");
    }
    let ranks = [steps("ab", "ca"), steps("ab", "bc"), steps("ca", "bc")];
    assert!(
        compare(&schedules(groups, &[ranks[0].clone(), ranks[1].clone(), ranks[2].clone()]), KEEP).is_ok()
    );
}

#[test]
fn messages_need_room_where_both_send_first() {
    let ranks = [vec![send(1, 0), receive(1, 0)], vec![send(0, 0), receive(0, 0)]];
    let schedules = schedules(&[], &ranks);
    let found = compare(&schedules, Sends::Wait).unwrap_err();
    assert_eq!(found.sides.len(), 2);
    assert!(compare(&schedules, Sends::Keep(16)).is_ok());
    assert!(compare(&schedules, Sends::Keep(15)).is_err());
    let both_receive = [vec![receive(1, 0), send(1, 0)], vec![receive(0, 0), send(0, 0)]];
    let found = disagreement(&[], &both_receive, KEEP);
    assert!(
        found.to_string().contains("receive(src=1, tag=0) of 4 f32 in ranks [0, 1], waiting for rank 1,")
    );
}

#[test]
fn tags_out_of_order_need_room() {
    let ranks = [vec![send(1, 1), send(1, 0)], vec![receive(0, 0), receive(0, 1)]];
    let schedules = schedules(&[], &ranks);
    assert!(compare(&schedules, Sends::Wait).is_err());
    // The receiver takes the first message out of the way, whatever its size.
    assert!(compare(&schedules, Sends::Keep(0)).is_ok());
}

#[test]
fn structures_are_compared_where_data_decide() {
    let either = |then: &[Do], otherwise: &[Do]| Do::Either(then.to_vec(), otherwise.to_vec());
    let ar = || world(SUM, 3);
    let in_one = vec![either(&[ar()], &[])];
    assert!(compare(&schedules(&[], &[in_one.clone(), in_one.clone()]), Sends::Wait).is_ok());
    let found = disagreement(&[], &[vec![ar()], in_one.clone()], KEEP);
    let text = found.to_string();
    assert!(
        text.contains(
            "rank 1 has all_reduce(sum) of 3 f32 in ranks [0, 1] in one way of the branch 0 at 0/0"
        ),
        "{text}"
    );
    // Data do not matter where both ways do the same.
    let in_both = vec![either(&[ar(), ar()], &[ar(), ar()])];
    assert!(compare(&schedules(&[], &[vec![ar(), ar()], in_both]), Sends::Wait).is_ok());
    let more = vec![either(&[ar(), world(AllGather, 2), ar()], &[ar(), ar()])];
    let [Step::Exchange(_), Step::Branch { ways, .. }, Step::Exchange(_)] =
        &schedules(&[], &[more.clone(), more])[0].steps[..]
    else {
        panic!("common steps stand outside")
    };
    assert_eq!((ways[0].len(), ways[1].len()), (1, 0));
    let turns = vec![Do::Turns(vec![ar()])];
    assert!(compare(&schedules(&[], &[turns.clone(), turns.clone()]), Sends::Wait).is_ok());
    assert!(disagreement(&[], &[turns, vec![ar()]], KEEP).to_string().contains("in the loop 0"));
}

#[test]
fn turns_are_compared_with_each_other() {
    let groups: &[(&str, &[usize])] = &[("a", &[0, 1]), ("b", &[1, 0])];
    let (a, b) = (Do::In("a", SUM, 3), Do::In("b", SUM, 3));
    let together = vec![Do::Turns(vec![a.clone(), b.clone()])];
    let apart = vec![Do::Turns(vec![a]), Do::Turns(vec![b])];
    assert!(compare(&schedules(groups, &[together.clone(), together.clone()]), Sends::Wait).is_ok());
    assert_eq!(disagreement(groups, &[together, apart], KEEP).sides.len(), 2);
}

#[test]
fn extents_that_are_not_known_compare_as_expressions() {
    let at = |rank, extent: &Dim| {
        let mut builder = GraphBuilder::new("g");
        let spec = TensorSpec::new(DType::F32, Shape::ranked([extent.clone(), 8.into()]));
        let x = builder.input("x", spec);
        let op = Collective {
            op: CollectiveOp::new(SUM, "hccl_world_group"),
            size: None,
            ranks: None,
            receives: None,
        };
        builder.push(Op::Collective(op), &[x], &"n".into()).unwrap();
        let graph = builder.finish().unwrap();
        let groups = group_ranks(&graph, &GroupRanks::new(), rank, 2).unwrap();
        Schedule::new(&graph, &groups, rank).unwrap()
    };
    let n = Dim::symbol("n");
    let half = n.floor_div(&2.into());
    assert!(compare(&[at(0, &half), at(1, &half)], Sends::Wait).is_ok());
    let text = compare(&[at(0, &half), at(1, &n)], Sends::Wait).unwrap_err().to_string();
    assert!(text.contains("of 8*n f32"), "{text}");
}

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

const TRIANGLE: &[(&str, &[usize])] = &[("ab", &[0, 1]), ("bc", &[1, 2]), ("ca", &[2, 0])];

/// What three ranks do, after some of their steps have changed places.
fn random_ranks(numbers: &mut Numbers) -> [Vec<Do>; 3] {
    let mut ranks: [Vec<Do>; 3] = Default::default();
    for _ in 0..6 {
        let (from, to) = (numbers.below(3), 1 + numbers.below(2));
        let (to, tag) = ((from + to) % 3, numbers.below(2) as i64);
        match numbers.below(4) {
            0 => ranks.iter_mut().for_each(|steps| steps.push(world(SUM, 3))),
            1 => {
                let (name, members) = TRIANGLE[numbers.below(3)];
                members.iter().for_each(|&rank| ranks[rank].push(Do::In(name, SUM, 3)));
            }
            _ => {
                let elements = [4, SEND_CAPACITY / 2][numbers.below(2)];
                ranks[from].push(world(Send { dest: to, tag }, elements));
                ranks[to].push(world(Receive { src: from, tag }, elements));
            }
        }
    }
    for _ in 0..numbers.below(4) {
        let steps = &mut ranks[numbers.below(3)];
        if steps.len() > 1 {
            let at = numbers.below(steps.len() - 1);
            steps.swap(at, at + 1);
        }
    }
    ranks
}

/// Does the steps on threads, as far as all ranks come.
fn reach_the_end(ranks: &[Vec<Do>; 3], timeout: Duration) -> mslite_collective::Result<()> {
    let worlds = World::threads(3, timeout).unwrap();
    std::thread::scope(|scope| {
        let steps = ranks.iter().map(Vec::as_slice);
        let run = |(world, steps)| scope.spawn(move || run_steps(world, steps));
        let threads: Vec<_> = worlds.into_iter().zip(steps).map(run).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        results.into_iter().collect()
    })
}

fn run_steps(world: World, steps: &[Do]) -> mslite_collective::Result<()> {
    let mut groups = vec![("hccl_world_group", world.everybody())];
    for &(name, ranks) in TRIANGLE.iter().filter(|(_, ranks)| ranks.contains(&world.rank())) {
        groups.push((name, world.group(name, ranks)?));
    }
    // Who has left cannot be found by those who open a group with it.
    world.everybody().barrier()?;
    for step in steps {
        let Do::In(name, kind, elements) = step else { panic!("plain steps only") };
        let (_, group) = groups.iter().find(|(other, _)| other == name).unwrap();
        let mut data = vec![0f32; *elements];
        match *kind {
            AllReduce(reduction) => group.all_reduce(&mut data, reduction)?,
            Send { dest, tag } => group.send(&data, dest, tag)?,
            Receive { src, tag } => group.receive(&mut data, src, tag)?,
            _ => panic!("{kind} is not among them"),
        }
    }
    Ok(())
}

#[test]
fn circles_are_those_of_real_runs() {
    let (mut reached, mut stuck) = (0, 0);
    let mut numbers = Numbers(1);
    while reached < 60 || stuck < 12 {
        let ranks = random_ranks(&mut numbers);
        let found = compare(&schedules(TRIANGLE, &ranks), Sends::Keep(SEND_CAPACITY)).map(drop);
        match found {
            Ok(()) if reached < 60 => {
                let result = reach_the_end(&ranks, Duration::from_secs(60));
                assert_eq!(result, Ok(()), "{ranks:?}");
                reached += 1;
            }
            Err(found) if found.what.contains("circle") && stuck < 12 => {
                assert!(reach_the_end(&ranks, Duration::from_millis(200)).is_err(), "{found}: {ranks:?}");
                stuck += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn damaged_bytes_are_refused() {
    let sound = schedules(&[], &[vec![Do::Turns(vec![send(1, 0)])], vec![Do::Turns(vec![receive(0, 0)])]]);
    let bytes = sound[0].encode();
    for cut in 0..bytes.len() - 1 {
        let _ = Schedule::decode(&bytes[..cut]);
        let mut other = bytes.clone();
        other[cut] ^= 1;
        if let Some(schedule) = Schedule::decode(&other) {
            let _ = compare(&[schedule, sound[1].clone()], KEEP);
        }
    }
    for bytes in [&b"do\tb"[..], b"if\tx\nend\n", b"loop\tx\n", b"end\n", b"\xff\n"] {
        assert_eq!(Schedule::decode(bytes), None);
    }
    assert_eq!(Schedule::decode("loop\tx\n".repeat(1 << 20).as_bytes()), None);
}
