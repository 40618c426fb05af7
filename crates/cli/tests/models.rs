//! Every model that MindSpore has exported and run gives MindSpore's outputs, in every way of starting ranks.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use mslite_testkit::cases::discover;

/// Models that need what is not built yet. One that works all the same fails the test, so that the list is true.
const NOT_YET: &[(&str, &str)] = &[];

fn check_all(further: &[&str]) {
    let cases = discover(support::models().join("dev")).unwrap();
    if cases.is_empty() {
        println!("skipped: no models beside the checkout");
        return;
    }
    let mut wrong = Vec::new();
    for case in &cases {
        let result = support::check(case, further);
        let reason = NOT_YET.iter().find(|(name, _)| *name == case.name);
        match (result, reason) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{}: works, but is listed as not yet", case.name)),
            (Err(error), None) => wrong.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases fail:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn as_processes() {
    check_all(&[]);
}

#[test]
fn as_threads_of_one_process() {
    check_all(&["--in-process"]);
}
