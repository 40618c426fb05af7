//! What was measured.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::setup::{Setup, Shapes};

/// The figures of one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measure {
    pub(super) calls: usize,
    /// What the calls took together, until the last rank was through.
    pub(super) seconds: f64,
    /// What a call took at the rank where it took longest: the least, the middle one, that which a tenth exceed, the most.
    pub(super) ms: [f64; 4],
    /// For each rank, which part of the time it was inside collectives.
    pub(super) collectives: Vec<f64>,
    /// Time on cores, of all threads of all ranks.
    pub(super) cpu_seconds: f64,
    /// Arithmetic operations of a call at all ranks, if they can be told.
    pub(super) flops: Option<u64>,
    /// What the slowest rank took to read, optimise and compile the model.
    pub(super) build_ms: f64,
    /// Threads of each rank.
    pub(super) threads: usize,
}

impl Measure {
    /// The measures of those objects that have been printed as JSON.
    pub(super) fn read(output: &[u8]) -> serde_json::Result<Vec<Measure>> {
        let lines = output.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{"));
        let rounds = lines.map(|line| {
            let mut object: Value = serde_json::from_slice(line)?;
            serde_json::from_value::<Vec<Measure>>(object["rounds"].take())
        });
        Ok(rounds.collect::<serde_json::Result<Vec<_>>>()?.concat())
    }

    pub(super) fn calls_per_second(&self) -> f64 {
        self.calls as f64 / self.seconds
    }
}

/// The figures of one model with inputs of one shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) setup: Setup,
    pub(super) shapes: Option<Shapes>,
    pub(super) rounds: Vec<Measure>,
}

impl Row {
    /// The median over the rounds.
    pub(super) fn median(&self, figure: impl Fn(&Measure) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    /// How many times the calls of another row are made in the same time: the median of what each round says.
    pub(super) fn ratio(&self, other: &Row) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(pairs.map(|(own, other)| own.calls_per_second() / other.calls_per_second()).collect())
    }

    pub(super) fn least_ms(&self) -> f64 {
        self.rounds.iter().map(|round| round.ms[0]).fold(f64::INFINITY, f64::min)
    }

    pub(super) fn most_ms(&self) -> f64 {
        self.rounds.iter().map(|round| round.ms[3]).fold(0.0, f64::max)
    }

    /// For each rank, which part of the time it was inside collectives.
    pub(super) fn collectives(&self) -> Vec<f64> {
        let ranks = self.rounds.iter().map(|round| round.collectives.len()).max().unwrap_or(0);
        let of_rank =
            |rank: usize| self.median(|round| round.collectives.get(rank).copied().unwrap_or_default());
        (0..ranks).map(of_rank).collect()
    }

    /// Billions of arithmetic operations in a second, at all ranks.
    pub(super) fn gflops(&self) -> Option<f64> {
        let flops = self.rounds.first()?.flops? as f64;
        Some(self.median(|round| flops * round.calls_per_second() / 1e9))
    }

    /// How many cores were busy, with computing or with waiting.
    pub(super) fn cores(&self) -> f64 {
        self.median(|round| round.cpu_seconds / round.seconds)
    }
}

/// The middle one, or the mean of the middle two; 0 when there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match &values[..] {
        [] => 0.0,
        values if values.len() % 2 == 1 => values[middle],
        values => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seconds: &[f64]) -> Row {
        let round = |&seconds: &f64| Measure {
            calls: 10,
            seconds,
            ms: [seconds, 2.0 * seconds, 3.0 * seconds, 4.0 * seconds],
            collectives: vec![seconds / 10.0, seconds / 20.0],
            cpu_seconds: 2.0 * seconds,
            flops: Some(1_000_000_000),
            build_ms: 1.0,
            threads: 1,
        };
        let setup = "m,ranks=2,threads=1".parse().unwrap();
        Row { setup, shapes: None, rounds: seconds.iter().map(round).collect() }
    }

    #[test]
    fn figures_are_medians_over_the_rounds() {
        let row = row(&[5.0, 1.0, 2.0]);
        assert_eq!((row.median(Measure::calls_per_second), row.gflops()), (5.0, Some(5.0)));
        assert_eq!((row.least_ms(), row.median(|m| m.ms[1]), row.most_ms()), (1.0, 4.0, 20.0));
        assert_eq!((row.collectives(), row.cores()), (vec![0.2, 0.1], 2.0));
    }

    #[test]
    fn rounds_are_compared_with_each_other() {
        assert_eq!(row(&[1.0, 10.0, 100.0]).ratio(&row(&[1.0, 20.0, 300.0])), 2.0);
    }

    #[test]
    fn what_is_printed_is_read() {
        let rounds = row(&[1.0, 2.0]).rounds;
        let line = serde_json::json!({ "bench": "model", "rounds": rounds }).to_string();
        let text = format!("noise\n{line}\n{line}\n");
        assert_eq!(Measure::read(text.as_bytes()).unwrap(), [&rounds[..], &rounds[..]].concat());
        assert!(Measure::read(b"{}").is_err());
    }
}
