//! What one rank does to measure.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mslite::{BuildOptions, Context, Error, ErrorKind, Model, ModelType, Ranks, Result, Tensor, World};
use mslite_collective::{CollectiveExt, JoinOptions, Meter};
use mslite_graph_opt::specialise;
use mslite_tensor::Tensor as Data;
use rustix::time::{ClockId, clock_gettime};

use super::ModelArgs;
use super::measure::{Measure, Row};
use super::setup::{Setup, Shapes};
use crate::run::{at_rank, concerns_all, parse_key};

/// Most calls in a round.
const MAX_CALLS: f64 = 1e5;

/// Measures a model at this rank, in rounds; every rank gets the rows of all.
pub(super) fn measure(args: &ModelArgs, setup: &Setup, options: &JoinOptions) -> Result<Vec<Row>> {
    let (world, meter) = World::join(options)?.metered();
    let rank = Rank { args, world: Arc::new(world), meter };
    let context = rank.context(setup);
    let result = rank.rounds(setup, &context);
    if let Err(error) = &result
        && !concerns_all(error.kind())
    {
        context.abort(error);
    }
    result
}

struct Rank<'a> {
    args: &'a ModelArgs,
    world: Arc<World>,
    meter: Arc<Meter>,
}

/// What a rank tells the others of its calls.
struct Told {
    seconds: f64,
    inside: f64,
    cpu_seconds: f64,
    build_seconds: f64,
    /// NaN when they cannot be told.
    flops: f64,
    /// Of each call.
    latencies: Vec<f64>,
}

impl Rank<'_> {
    fn context(&self, setup: &Setup) -> Context {
        let mut context = Context::new();
        context.cpu.thread_num = setup.threads.unwrap_or(0);
        context.group_info_file =
            self.args.group_file.as_deref().map(|path| at_rank(path, self.world.rank()));
        context.ranks = Ranks::World(self.world.clone());
        context
    }

    fn rounds(&self, setup: &Setup, context: &Context) -> Result<Vec<Row>> {
        let new = |shapes| Row { setup: setup.clone(), shapes, rounds: Vec::new() };
        let mut rows: Vec<Row> = self.args.shapes().into_iter().map(new).collect();
        let path = at_rank(&setup.model, self.world.rank());
        let threads = context.threads()?;
        for _ in 0..self.args.rounds {
            let start = Instant::now();
            let model = self.build(&path, context)?;
            let build_seconds = start.elapsed().as_secs_f64();
            for row in &mut rows {
                let told = self.run(&model, row.shapes.as_ref(), build_seconds)?;
                row.rounds.push(measure_of(&self.exchange(&told.to_numbers())?, threads));
            }
        }
        Ok(rows)
    }

    fn build(&self, path: &Path, context: &Context) -> Result<Model> {
        let mut options = BuildOptions::default();
        let key = self.args.key.as_deref().map(parse_key).transpose();
        options.key = key.map_err(|why| Error::new(ErrorKind::InvalidArgument, why))?;
        Model::build_with(path, ModelType::MindIr, context, &options)
    }

    fn run(&self, model: &Model, shapes: Option<&Shapes>, build_seconds: f64) -> Result<Told> {
        let inputs = self.inputs(model, shapes)?;
        let outputs = model.predict(&inputs)?.into_iter();
        let mut outputs: Vec<Data> = outputs.filter_map(|output| output.data().cloned()).collect();
        let calls = self.calls(model, &inputs, &mut outputs)?;
        self.world.everybody().barrier()?;
        let (inside, cpu_seconds, start) = (self.meter.time(), cpu_time(), Instant::now());
        let latencies = predict(model, &inputs, &mut outputs, calls)?;
        Ok(Told {
            seconds: start.elapsed().as_secs_f64(),
            inside: (self.meter.time() - inside).as_secs_f64(),
            cpu_seconds: (cpu_time() - cpu_seconds).as_secs_f64(),
            build_seconds,
            flops: flops(model, &inputs)?,
            latencies,
        })
    }

    fn inputs(&self, model: &Model, shapes: Option<&Shapes>) -> Result<Vec<Tensor>> {
        let mut inputs = model.inputs();
        if let Some(Shapes(shapes)) = shapes {
            let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            model.resize(&mut inputs, &shapes)?;
        }
        for input in &mut inputs {
            let data = self.args.fill.data(input)?;
            input.set_tensor(data)?;
        }
        Ok(inputs)
    }

    /// Warms up, and says how many calls are to be measured: the same number at all ranks.
    fn calls(&self, model: &Model, inputs: &[Tensor], outputs: &mut [Data]) -> Result<usize> {
        let warm_up = predict(model, inputs, outputs, self.args.warm_up as usize)?;
        let least = warm_up.into_iter().fold(f64::INFINITY, f64::min);
        let all = self.exchange(&[least])?;
        let least = all.iter().flatten().copied().fold(1e-9, f64::max);
        Ok((f64::from(self.args.time) / 1e3 / least).clamp(1.0, MAX_CALLS) as usize)
    }

    /// Everybody's numbers, by rank.
    fn exchange(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        let numbers = |bytes: Vec<u8>| bytes.as_chunks().0.iter().copied().map(f64::from_ne_bytes).collect();
        Ok(self.world.exchange(&bytes)?.into_iter().map(numbers).collect())
    }
}

/// Seconds that each of so many calls takes.
fn predict(model: &Model, inputs: &[Tensor], outputs: &mut [Data], calls: usize) -> Result<Vec<f64>> {
    let call = |_| {
        let start = Instant::now();
        model.predict_into(inputs, outputs)?;
        Ok(start.elapsed().as_secs_f64())
    };
    (0..calls).map(call).collect()
}

/// Time on cores, of all threads of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Arithmetic operations of a call at this rank; NaN when they cannot be told.
fn flops(model: &Model, inputs: &[Tensor]) -> Result<f64> {
    let Some(graph) = model.graph() else { return Ok(f64::NAN) };
    let dims: Vec<&[usize]> = inputs.iter().filter_map(Tensor::data).map(Data::dims).collect();
    let graph = specialise(graph, &dims).map_err(Error::from)?;
    Ok(graph.total_cost().map_or(f64::NAN, |cost| cost.flops as f64))
}

impl Told {
    fn to_numbers(&self) -> Vec<f64> {
        let Told { seconds, inside, cpu_seconds, build_seconds, flops, latencies } = self;
        [&[*seconds, *inside, *cpu_seconds, *build_seconds, *flops][..], latencies].concat()
    }
}

/// What all ranks have told, taken together.
fn measure_of(ranks: &[Vec<f64>], threads: usize) -> Measure {
    let number = |rank: &Vec<f64>, at: usize| rank.get(at).copied().unwrap_or_default();
    let most = |at: usize| ranks.iter().map(|rank| number(rank, at)).fold(0.0, f64::max);
    let sum = |at: usize| ranks.iter().map(|rank| number(rank, at)).sum::<f64>();
    let (fixed, all) = (5, ranks.iter().map(Vec::len).min().unwrap_or(0));
    let mut latencies: Vec<f64> = (fixed..all).map(|at| most(at) * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies.get((part * latencies.len() as f64) as usize).or(latencies.last());
    let flops = sum(4);
    Measure {
        calls: latencies.len(),
        seconds: most(0),
        ms: [0.0, 0.5, 0.9, 1.0].map(|part| at(part).copied().unwrap_or_default()),
        collectives: ranks.iter().map(|rank| number(rank, 1) / number(rank, 0)).collect(),
        cpu_seconds: sum(2),
        flops: (!flops.is_nan()).then_some(flops as u64),
        build_ms: most(3) * 1e3,
        threads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_rank_counts() {
        let calls = [[1.0, 4.0, 2.0, 3.0], [2.0, 2.0, 2.0, 2.0]];
        let told = [(10.0, 1.0, 100.0), (8.0, 4.0, 200.0)].map(|(seconds, inside, flops)| Told {
            seconds,
            inside,
            cpu_seconds: seconds,
            build_seconds: inside,
            flops,
            latencies: Vec::new(),
        });
        let ranks: Vec<Vec<f64>> =
            told.iter().zip(calls).map(|(told, calls)| [&told.to_numbers()[..], &calls].concat()).collect();
        let measure = measure_of(&ranks, 3);
        assert_eq!((measure.calls, measure.seconds, measure.build_ms), (4, 10.0, 4000.0));
        assert_eq!(measure.ms, [2000.0, 3000.0, 4000.0, 4000.0]);
        assert_eq!((measure.collectives, measure.flops), (vec![0.1, 0.5], Some(300)));
        assert_eq!((measure.cpu_seconds, measure.threads), (18.0, 3));
    }
}
