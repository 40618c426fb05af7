//! Named cases, their outcomes, and the two ways to run them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// How a case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// Not run, and why.
    Skipped(String),
    /// Not as it should, and how.
    Failed(String),
}

/// The body of a case answers `Ok`, or why it stopped.
pub(crate) type Verdict = Result<(), Stop>;

/// Why a case stopped early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    Skip(String),
    Fail(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Stop::Fail(reason)
    }
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        Stop::Fail(reason.to_owned())
    }
}

/// A failure with the step at which it happened.
pub(crate) fn fail<E: fmt::Display>(step: &str) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Fail(format!("{step}: {error}"))
}

/// A failure unless a condition holds.
pub(crate) fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Stop::Fail(reason())) }
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) body: Box<dyn FnOnce() -> Verdict + Send>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, body: impl FnOnce() -> Verdict + Send + 'static) -> Self {
        Case { name: name.into(), body: Box::new(body) }
    }
}

/// Cases that are known to fail, by name, each with the reason. A case of the table that passes fails the run: the
/// table is then to be shortened.
pub type KnownFailures = [(&'static str, &'static str)];

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every case with its outcome, in the order of the suite.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Report {
    /// Whether no case failed.
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Names of the failed cases, and how they failed.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.outcomes.iter().filter_map(|(name, outcome)| match outcome {
            Outcome::Failed(reason) => Some((name.as_str(), reason.as_str())),
            _ => None,
        })
    }

    /// Names of the skipped cases, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.outcomes.iter().filter_map(|(name, outcome)| match outcome {
            Outcome::Skipped(reason) => Some((name.as_str(), reason.as_str())),
            _ => None,
        })
    }

    /// Number of cases that passed.
    pub fn passed(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Passed).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, reason) in self.failures() {
            writeln!(f, "{name}: {reason}")?;
        }
        let (failed, skipped) = (self.failures().count(), self.skipped().count());
        write!(f, "{} passed, {failed} failed, {skipped} skipped", self.passed())
    }
}

/// What is expected of some cases.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expectations {
    pub(crate) known_failures: &'static KnownFailures,
    /// Beginnings of names.
    pub(crate) required: &'static [&'static str],
}

/// Runs every case here and now.
pub(crate) fn report(cases: Vec<Case>, expectations: Expectations) -> Report {
    let mut outcomes = expectations.absent(&cases);
    for case in cases {
        let outcome = expectations.settle(&case.name, run(case.body));
        outcomes.push((case.name, outcome));
    }
    Report { outcomes }
}

/// Runs the cases that the command line chooses, as `cargo test` does.
pub(crate) fn run_main(cases: Vec<Case>, expectations: Expectations) -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = expectations
        .absent(&cases)
        .into_iter()
        .map(|(name, outcome)| Trial::ignorable_test(name, move || complete(outcome)))
        .collect();
    for Case { name, body } in cases {
        let runner = {
            let name = name.clone();
            move || complete(expectations.settle(&name, run(body)))
        };
        trials.push(Trial::ignorable_test(name, runner));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn complete(outcome: Outcome) -> Result<Completion, libtest_mimic::Failed> {
    match outcome {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Outcome::Failed(reason) => Err(reason.into()),
    }
}

fn run(body: Box<dyn FnOnce() -> Verdict + Send>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(Stop::Skip(reason))) => Outcome::Skipped(reason),
        Ok(Err(Stop::Fail(reason))) => Outcome::Failed(reason),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Outcome::Failed(format!("panicked: {text}"))
        }
    }
}

impl Expectations {
    /// What an outcome means for the case of this name.
    fn settle(self, name: &str, outcome: Outcome) -> Outcome {
        let known = self.known_failures.iter().find(|(known, _)| *known == name);
        let is_required = self.required.iter().any(|start| name.starts_with(start));
        match (outcome, known) {
            (Outcome::Failed(_), Some((_, reason))) => Outcome::Skipped(format!("known failure: {reason}")),
            (Outcome::Passed, Some((_, reason))) => Outcome::Failed(format!(
                "unexpected pass: take it off the known failures (its reason was: {reason})"
            )),
            (Outcome::Skipped(reason), None) if is_required => {
                Outcome::Failed(format!("required, but skipped: {reason}"))
            }
            (outcome, _) => outcome,
        }
    }

    /// Failures for what names no case.
    fn absent(self, cases: &[Case]) -> Vec<(String, Outcome)> {
        let failed = |name: &str, what: &str| (name.to_owned(), Outcome::Failed(what.to_owned()));
        let known = self.known_failures.iter().map(|(name, _)| *name);
        let unknown = known.filter(|name| cases.iter().all(|case| case.name != *name));
        let missing =
            self.required.iter().filter(|start| cases.iter().all(|case| !case.name.starts_with(**start)));
        let unknown = unknown.map(|name| failed(name, "a known failure of this name does not exist"));
        unknown.chain(missing.map(|start| failed(start, "no required case begins like this"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> Vec<Case> {
        vec![
            Case::new("good", || Ok(())),
            Case::new("bad", || Err("2 is not 3".into())),
            Case::new("absent", || Err(Stop::Skip("no such device".to_owned()))),
            Case::new("panics", || panic!("at the disco")),
        ]
    }

    #[test]
    fn outcomes_are_reported() {
        let report = report(cases(), Expectations::default());
        assert!(!report.is_success());
        let failures: Vec<_> = report.failures().collect();
        assert_eq!(failures, [("bad", "2 is not 3"), ("panics", "panicked: at the disco")]);
        assert_eq!(report.skipped().collect::<Vec<_>>(), [("absent", "no such device")]);
        assert!(report.to_string().ends_with("1 passed, 2 failed, 1 skipped"));
    }

    fn with_known(known_failures: &'static KnownFailures) -> Report {
        report(cases(), Expectations { known_failures, required: &[] })
    }

    #[test]
    fn known_failures_are_skipped_and_unexpected_passes_fail() {
        assert!(with_known(&[("bad", "issue 3"), ("panics", "issue 4")]).is_success());
        let report = with_known(&[("good", "old"), ("bad", "x"), ("panics", "x"), ("nobody", "x")]);
        let failures: Vec<_> = report.failures().map(|(name, _)| name).collect();
        assert_eq!(failures, ["nobody", "good"]);
    }

    #[test]
    fn required_cases_must_not_be_skipped() {
        let expectations =
            Expectations { known_failures: &[("bad", ""), ("panics", "")], required: &["abs", "go", "x/"] };
        let report = report(cases(), expectations);
        let failures: Vec<_> = report.failures().collect();
        assert_eq!(failures[0], ("x/", "no required case begins like this"));
        assert_eq!(failures[1], ("absent", "required, but skipped: no such device"));
        assert_eq!(failures.len(), 2);
    }
}
