//! What was measured.

use serde_json::{Value, json};

use super::operation::{Case, Operation, ROOT};

/// Microseconds that one batch took for each operation, over the ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) min: f64,
    pub(super) avg: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

/// The figures of one case with one implementation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) implementation: String,
    pub(super) operation: Operation,
    pub(super) ranks: usize,
    pub(super) bytes: usize,
    pub(super) samples: Vec<Sample>,
    /// The following are not known of others.
    pub(super) case: Option<Case>,
    pub(super) iterations: Option<usize>,
    pub(super) wrong: Option<usize>,
}

impl Sample {
    pub(super) fn of(mut by_rank: Vec<f64>) -> Self {
        let avg = by_rank.iter().sum::<f64>() / by_rank.len().max(1) as f64;
        let median = median(&mut by_rank);
        let (min, max) = (by_rank.first().copied(), by_rank.last().copied());
        Sample { min: min.unwrap_or_default(), avg, median, max: max.unwrap_or_default() }
    }
}

/// The middle one, or the mean of the middle two; sorts. 0 when there are none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => 0.0,
        _ if values.len() % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl Row {
    pub(super) fn new(implementation: &str, case: &Case, samples: Vec<Sample>) -> Self {
        Row {
            implementation: implementation.to_owned(),
            operation: case.operation,
            ranks: case.ranks,
            bytes: case.bytes(),
            samples,
            case: Some(*case),
            iterations: None,
            wrong: None,
        }
    }

    /// Whether the other row measures the same thing.
    pub(super) fn is_same_case(&self, other: &Row) -> bool {
        (self.operation, self.ranks, self.bytes) == (other.operation, other.ranks, other.bytes)
    }

    /// Adds what a later round has measured.
    pub(super) fn merge(&mut self, later: Row) {
        self.samples.extend(later.samples);
        self.wrong = self.wrong.max(later.wrong);
    }

    /// Medians over the batches.
    pub(super) fn typical(&self) -> Sample {
        let over_batches =
            |part: fn(&Sample) -> f64| median(&mut self.samples.iter().map(part).collect::<Vec<_>>());
        Sample {
            min: over_batches(|s| s.min),
            avg: over_batches(|s| s.avg),
            median: over_batches(|s| s.median),
            max: over_batches(|s| s.max),
        }
    }

    /// The figure: microseconds until the last rank is through.
    pub(super) fn time(&self) -> f64 {
        self.typical().max
    }

    /// Microseconds until the last rank is through, in the best batch: what else the machine does only ever adds.
    pub(super) fn least(&self) -> f64 {
        self.samples.iter().map(|sample| sample.max).fold(f64::MAX, f64::min)
    }

    /// Algorithm and bus bandwidth, in GB/s.
    pub(super) fn bandwidths(&self) -> (f64, f64) {
        let algorithm = self.bytes as f64 / (self.time() * 1e3).max(f64::MIN_POSITIVE);
        (algorithm, algorithm * self.operation.bus_factor(self.ranks))
    }

    /// A line of `--json`, which [`Row::from_json`] reads.
    pub(super) fn as_json(&self) -> Value {
        let Sample { min, avg, median, max } = self.typical();
        let (algorithm, bus) = self.bandwidths();
        let samples: Vec<[f64; 4]> = self.samples.iter().map(|s| [s.min, s.avg, s.median, s.max]).collect();
        let mut line = json!({
            "bench": "collective", "impl": self.implementation, "op": self.operation.name(),
            "ranks": self.ranks, "bytes": self.bytes, "us": max, "min_us": min, "avg_us": avg,
            "median_us": median, "max_us": max, "algbw": algorithm, "busbw": bus,
            "iterations": self.iterations, "wrong": self.wrong, "samples": samples,
        });
        if let Some(case) = &self.case {
            let (send, recv) = case.elements();
            line["count"] = send.max(recv).into();
            line["dtype"] = case.dtype.name().into();
            line["redop"] = case.operation.reduces().then(|| case.reduction.name()).into();
            line["root"] = has_root(case.operation).then_some(ROOT).into();
        }
        line
    }

    /// Reads a line of a peer with at least `op`, `ranks`, `bytes` and `us`. Where the line names its implementation
    /// (`impl`) other than `name`, it is `name:impl`; without a name it is what the line says.
    pub(super) fn from_json(line: &Value, name: Option<&str>) -> Result<Self, String> {
        let number = |field: &str| {
            let value = line[field].as_f64().filter(|value| value.is_finite() && *value >= 0.0);
            value.ok_or_else(|| format!("{field:?} is no number above 0"))
        };
        let operation = line["op"].as_str().ok_or("\"op\" is no text")?;
        let implementation = match (name, line["impl"].as_str()) {
            (Some(name), Some(other)) if other != name => format!("{name}:{other}"),
            (Some(name), _) | (None, Some(name)) => name.to_owned(),
            (None, None) => return Err("\"impl\" is no text".to_owned()),
        };
        let us = number("us")?;
        let mut samples: Vec<Sample> =
            line["samples"].as_array().into_iter().flatten().filter_map(sample).collect();
        if samples.is_empty() {
            samples.push(Sample { min: us, avg: us, median: us, max: us });
        }
        let whole = |field: &str| line[field].as_u64().and_then(|value| usize::try_from(value).ok());
        Ok(Row {
            implementation,
            operation: operation.parse().map_err(|error| format!("\"op\" is {operation:?}: {error}"))?,
            ranks: number("ranks")? as usize,
            bytes: number("bytes")? as usize,
            samples,
            case: None,
            iterations: whole("iterations"),
            wrong: whole("wrong"),
        })
    }
}

fn sample(value: &Value) -> Option<Sample> {
    let part = |i: usize| value.get(i)?.as_f64();
    Some(Sample { min: part(0)?, avg: part(1)?, median: part(2)?, max: part(3)? })
}

fn has_root(operation: Operation) -> bool {
    matches!(operation, Operation::Broadcast | Operation::Reduce | Operation::Gather | Operation::Scatter)
}

#[cfg(test)]
mod tests {
    use mslite::DType;
    use mslite_collective::Reduction;

    use super::*;

    fn row(operation: Operation, ranks: usize, us: &[f64]) -> Row {
        let case = Case::all(&[operation], &[1_000_000], ranks, DType::F32, Reduction::Sum)[0];
        Row::new("mslite", &case, us.iter().map(|&us| Sample::of(vec![us / 2.0, us])).collect())
    }

    #[test]
    fn the_figure_is_the_median_of_the_slowest_rank() {
        let row = row(Operation::AllReduce, 4, &[900.0, 100.0, 1000.0]);
        assert_eq!(row.least(), 100.0);
        assert_eq!(row.typical(), Sample { min: 450.0, avg: 675.0, median: 675.0, max: 900.0 });
        // 1 MB in 900 us; each rank must send and receive three quarters of it twice.
        let (algorithm, bus) = row.bandwidths();
        assert!((algorithm - 1.0 / 0.9).abs() < 1e-9 && (bus - 1.5 / 0.9).abs() < 1e-9);
    }

    #[test]
    fn lines_read_back() {
        let written = row(Operation::Broadcast, 2, &[3.0, 5.0]);
        let read = Row::from_json(&written.as_json(), None).unwrap();
        assert_eq!(read, Row { case: None, ..written });
    }

    #[test]
    fn lines_of_others_need_little() {
        let line = json!({ "op": "allreduce", "ranks": 2, "bytes": 8, "us": 0.5, "impl": "fast" });
        let read = Row::from_json(&line, Some("peer")).unwrap();
        assert_eq!((read.implementation.as_str(), read.time()), ("peer:fast", 0.5));
        for field in ["op", "ranks", "bytes", "us"] {
            let mut damaged = line.clone();
            damaged[field] = json!([]);
            assert!(Row::from_json(&damaged, Some("peer")).unwrap_err().contains(field));
        }
    }
}
