use std::collections::BTreeSet;
use std::fmt;

use mslite_collective::{CollectiveKind, CollectiveOp, Group, Reduction, World};
use mslite_tensor::{Buffer, Stream};

use super::*;

fn threads(size: usize, timeout: Duration) -> Result<Vec<Rank>> {
    let rank = |world: World| -> Rank { Box::new(move |name, ranks| world.group(name, ranks)) };
    Ok(World::threads(size, timeout)?.into_iter().map(rank).collect())
}

#[test]
fn the_embedded_implementation_conforms() {
    let report = conformance(threads, &[]);
    assert!(report.is_success(), "{report}");
    assert_eq!(report.skipped().next(), None);
}

/// An implementation with a fault.
struct Faulty {
    inner: Arc<dyn Collective>,
    replace: fn(&CollectiveKind) -> CollectiveKind,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Collective for Faulty {
    fn group(&self) -> &Group {
        self.inner.group()
    }

    fn supports(&self, op: &CollectiveOp) -> bool {
        self.inner.supports(op)
    }

    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        stream: &dyn Stream,
    ) -> Result<()> {
        let op = CollectiveOp { kind: (self.replace)(&op.kind), group: op.group.clone() };
        self.inner.enqueue(&op, send, recv, stream)
    }

    fn abort(&self) {
        self.inner.abort();
    }
}

/// Which of the cases find the fault.
fn finders(names: &[&str], replace: fn(&CollectiveKind) -> CollectiveKind) -> Vec<String> {
    let provider = move |size, timeout| {
        let rank = |make: Rank| -> Rank {
            Box::new(move |name, ranks| Ok(Arc::new(Faulty { inner: make(name, ranks)?, replace }) as _))
        };
        Ok(threads(size, timeout)?.into_iter().map(rank).collect())
    };
    let mut cases = cases(provider);
    cases.retain(|case| names.contains(&case.name.as_str()));
    let report = suite::report(cases, Expectations::default());
    report.failures().map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn faults_are_found() {
    let sums = ["all_reduce_sum/f32", "all_reduce/in_place", "group/pairs", "mismatch/reduction"];
    let found = finders(&[&sums[..], &["all_gather/f32"]].concat(), |kind| match kind {
        CollectiveKind::AllReduce(Reduction::Sum) => CollectiveKind::AllReduce(Reduction::Max),
        other => other.clone(),
    });
    assert_eq!(BTreeSet::from_iter(found), sums.map(str::to_owned).into());
    let broadcasts = ["broadcast/f32", "mismatch/root", "refuses/ranks"];
    let found = finders(&[&broadcasts[..], &["all_gather/f32"]].concat(), |kind| match kind {
        CollectiveKind::Broadcast { .. } => CollectiveKind::Broadcast { root: 0 },
        other => other.clone(),
    });
    assert_eq!(BTreeSet::from_iter(found), broadcasts.map(str::to_owned).into());
}
