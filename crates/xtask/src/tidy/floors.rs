//! Which crate may depend on which.

use super::Finding;
use crate::workspace::Crate;

/// The floor of each member. A crate depends on lower floors only; its tests may also use its own.
const FLOORS: &[(&str, u32)] = &[
    ("mslite-standins", 0),
    ("mslite-tensor", 0),
    ("mslite-mindir", 1),
    ("mslite-collective", 1),
    ("mslite-graph-opt", 2),
    ("mslite-runtime", 3),
    ("mslite-backend-cpu", 4),
    ("mslite-backend-ge", 4),
    ("mslite-backend-trt", 4),
    ("mslite-testkit", 4),
    (FACADE, 5),
    ("mslite-cli", 6),
    ("mslite-python", 6),
    ("mslite-examples", 6),
    ("xtask", 6),
];

/// The only crate that names backends.
const FACADE: &str = "mslite";
const BACKEND_PREFIX: &str = "mslite-backend-";

pub(super) fn check(crates: &[Crate]) -> Vec<Finding> {
    crates.iter().flat_map(check_crate).collect()
}

fn check_crate(member: &Crate) -> Vec<Finding> {
    let finding = |message| Finding::new(format!("{}/Cargo.toml", member.folder), 1, message);
    let Some(floor) = floor(&member.name) else {
        let message = format!("{} has no floor; add it to FLOORS of xtask's tidy/floors.rs", member.name);
        return vec![finding(message)];
    };
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        let name = &dependency.name;
        let Some(other) = self::floor(name) else { continue };
        if other > floor || (other == floor && !dependency.is_dev) {
            let kind = if dependency.is_dev { "its tests depend" } else { "depends" };
            findings.push(finding(format!(
                "{} (floor {floor}) {kind} on {name} (floor {other}); move what it needs to a lower floor",
                member.name
            )));
        } else if !dependency.is_dev && member.name != FACADE && name.starts_with(BACKEND_PREFIX) {
            findings.push(finding(format!(
                "{} names the backend {name}, which only {FACADE} does; go through {FACADE}",
                member.name
            )));
        }
    }
    findings
}

fn floor(name: &str) -> Option<u32> {
    FLOORS.iter().find(|(member, _)| *member == name).map(|(_, floor)| *floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn messages(name: &str, dependency: &str, is_dev: bool) -> Vec<String> {
        let dependencies = vec![Dependency { name: dependency.to_owned(), is_dev }];
        let member = Crate { name: name.to_owned(), dependencies, ..Crate::default() };
        check(&[member]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn edges_lead_down() {
        assert!(messages("mslite-runtime", "mslite-graph-opt", false).is_empty());
        assert!(messages("mslite", "mslite-backend-cpu", false).is_empty());
        assert!(messages("mslite-runtime", "serde", false).is_empty());
    }

    #[test]
    fn edges_up_and_to_peers_are_found() {
        let up = messages("mslite-graph-opt", "mslite-runtime", false);
        let expected = "mslite-graph-opt (floor 2) depends on mslite-runtime (floor 3); move what it needs to \
                        a lower floor";
        assert_eq!(up, [expected]);
        assert_eq!(messages("mslite-collective", "mslite-mindir", false).len(), 1);
        assert_eq!(messages("mslite-collective", "mslite-testkit", true).len(), 1);
    }

    #[test]
    fn tests_may_use_peers() {
        assert!(messages("mslite-backend-cpu", "mslite-testkit", true).is_empty());
        assert_eq!(messages("mslite-backend-cpu", "mslite-testkit", false).len(), 1);
    }

    #[test]
    fn only_the_facade_names_backends() {
        assert_eq!(messages("mslite-cli", "mslite-backend-cpu", false).len(), 1);
        assert!(messages("mslite-cli", "mslite-backend-cpu", true).is_empty());
    }

    #[test]
    fn an_unknown_crate_needs_a_floor() {
        assert!(messages("mslite-new", "serde", false)[0].starts_with("mslite-new has no floor"));
    }
}
