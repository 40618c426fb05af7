//! Threads that compute together.
//!
//! A crew has a fixed number of threads, each of which waits for tasks in a mailbox: first spinning, then asleep.
//! The caller of a run posts to the first thread, the leader, which in turn shares out the parallel parts. Every
//! thread is the only one of a rayon pool, so that libraries that use rayon compute on the thread that calls
//! them. Handing out a task allocates nothing, and the same part of a task always meets the same thread.

use std::any::Any;
use std::fmt;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mslite_runtime::{Error, ErrorKind, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Elements of simple work below which sharing out costs more than it gains.
const WORTH_SHARING: usize = 64 * 1024;

/// How often a waiting thread looks before it lets others run, and how often it does that before it sleeps.
const SPINS: usize = 500;
const YIELDS: usize = 10;

/// Threads that compute together, one run at a time.
pub(crate) struct Crew {
    seats: Arc<[Seat]>,
    /// Each runs one job, which serves one seat until it is closed.
    _pools: Vec<ThreadPool>,
}

impl Crew {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: usize) -> Result<Self> {
        let seats: Arc<[Seat]> = (0..threads.max(1)).map(|_| Seat::default()).collect();
        let mut crew = Crew { seats, _pools: Vec::with_capacity(threads) };
        for index in 0..crew.seats.len() {
            let pool = ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("mslite-cpu-{index}"))
                .build()
                .map_err(|e| {
                    Error::new(ErrorKind::OutOfMemory, format!("cannot start {threads} threads")).caused_by(e)
                })?;
            let seats = crew.seats.clone();
            pool.spawn(move || seats[index].serve(index));
            crew._pools.push(pool);
        }
        Ok(crew)
    }

    /// Runs `work` on the leader and waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when it panics.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce(&Team) -> R + Send) -> Result<R> {
        let work = Mutex::new(Some(work));
        let result = Mutex::new(None);
        let task = |_: usize| {
            if let Some(work) = lock(&work).take() {
                *lock(&result) = Some(work(&Team { seats: &self.seats }));
            }
        };
        let failure = share(&self.seats[..1], &task, || Ok(()));
        if let Err(message) = failure {
            return Err(Error::new(ErrorKind::Internal, format!("a kernel panicked: {message}")));
        }
        let result = lock(&result).take();
        result.ok_or_else(|| Error::new(ErrorKind::Internal, "the run has no result"))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for seat in self.seats.iter() {
            seat.advance(CLOSED, |_| ());
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crew({} threads)", self.seats.len())
    }
}

/// The threads of a crew as its leader sees them during a run.
pub(crate) struct Team<'a> {
    seats: &'a [Seat],
}

impl Team<'_> {
    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.seats.len()
    }

    /// Calls `task` once on every thread, with the number of the thread, and waits.
    ///
    /// # Panics
    /// When a task panics.
    pub(crate) fn each(&self, task: &(dyn Fn(usize) + Sync)) {
        let own = || catch_unwind(AssertUnwindSafe(|| task(0))).map_err(message);
        if let Err(message) = share(&self.seats[1..], task, own) {
            panic!("{message}");
        }
    }

    /// Divides `data` among the threads, at multiples of `unit`, if it is long enough to be worth it, and calls
    /// `task` with the index of the first element of each part, and the part.
    pub(crate) fn split<T: Send>(&self, data: &mut [T], unit: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        self.split_costly(data, unit, 1, task);
    }

    /// As [`Team::split`], for work that costs `cost` times as much for each element as adding does.
    pub(crate) fn split_costly<T: Send>(
        &self,
        data: &mut [T],
        unit: usize,
        cost: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if self.threads() == 1 || data.len().saturating_mul(cost) < WORTH_SHARING {
            task(0, data);
            return;
        }
        let units = data.len().div_ceil(unit.max(1));
        let parts = Parts::new(data);
        self.each(&|thread| {
            let at = |index: usize| index * units / self.threads() * unit;
            parts.with(at(thread), at(thread + 1), &task);
        });
    }

    /// As [`Team::split_costly`], for two slices of one length, of which `task` gets the same parts.
    ///
    /// # Panics
    /// When their lengths differ.
    pub(crate) fn split_pair<T: Send>(
        &self,
        data: [&mut [T]; 2],
        unit: usize,
        cost: usize,
        task: impl Fn(usize, &mut [T], &mut [T]) + Sync,
    ) {
        let [first, second] = data;
        assert_eq!(first.len(), second.len(), "both have the same parts");
        let second = Parts::new(second);
        self.split_costly(first, unit, cost, |at, part| {
            second.with(at, at + part.len(), |_, other| task(at, part, other));
        });
    }
}

const IDLE: u8 = 0;
const POSTED: u8 = 1;
const DONE: u8 = 2;
const CLOSED: u8 = 3;

/// The mailbox of one thread. Its phase goes round: idle, posted, done.
#[derive(Default)]
struct Seat {
    phase: AtomicU8,
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Default)]
struct Slot {
    task: Option<Task>,
    sleepers: usize,
    failure: Option<String>,
}

type Task = &'static (dyn Fn(usize) + Sync);

impl Seat {
    fn serve(&self, index: usize) {
        loop {
            self.wait_while(|phase| phase != POSTED && phase != CLOSED);
            let Some(task) = lock(&self.slot).task.take() else { return };
            let outcome = catch_unwind(AssertUnwindSafe(|| task(index)));
            self.advance(DONE, |slot| slot.failure = outcome.err().map(message));
        }
    }

    /// Waits for the task that was posted.
    fn finish(&self) -> Result<(), String> {
        self.wait_while(|phase| phase != DONE);
        self.phase.store(IDLE, Ordering::Release);
        lock(&self.slot).failure.take().map_or(Ok(()), Err)
    }

    fn advance(&self, phase: u8, change: impl FnOnce(&mut Slot)) {
        let mut slot = lock(&self.slot);
        change(&mut slot);
        self.phase.store(phase, Ordering::Release);
        if slot.sleepers > 0 {
            self.changed.notify_all();
        }
    }

    fn wait_while(&self, waits: impl Fn(u8) -> bool) {
        for round in 0..SPINS + YIELDS {
            if !waits(self.phase.load(Ordering::Acquire)) {
                return;
            }
            if round < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
        let mut slot = lock(&self.slot);
        slot.sleepers += 1;
        while waits(self.phase.load(Ordering::Acquire)) {
            slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        slot.sleepers -= 1;
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

use shared::{Parts, share};

#[allow(unsafe_code, reason = "borrowed tasks and parts of slices cross threads that outlive the borrow")]
mod shared {
    use std::marker::PhantomData;

    use super::{POSTED, Seat, Task};

    /// Posts `task` to the threads at `seats`, does `own` meanwhile, and waits for all of them; the first failure
    /// is returned. `own` must not unwind.
    pub(super) fn share(
        seats: &[Seat],
        task: &(dyn Fn(usize) + Sync),
        own: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        // SAFETY: the threads drop the reference before they report that they have finished, and this function
        // does not return or unwind before all of them have: nothing between here and `finish` can panic.
        let task: Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        for seat in seats {
            seat.advance(POSTED, |slot| slot.task = Some(task));
        }
        let mut outcome = own();
        for seat in seats {
            let theirs = seat.finish();
            outcome = outcome.and(theirs);
        }
        outcome
    }

    /// A slice whose disjoint parts go to several threads.
    pub(super) struct Parts<'a, T> {
        start: *mut T,
        len: usize,
        _borrow: PhantomData<&'a mut [T]>,
    }

    // SAFETY: `with` hands out disjoint parts, so this is as sending each thread its own `&mut [T]`.
    unsafe impl<T: Send> Sync for Parts<'_, T> {}

    impl<'a, T> Parts<'a, T> {
        pub(super) fn new(data: &'a mut [T]) -> Self {
            Parts { start: data.as_mut_ptr(), len: data.len(), _borrow: PhantomData }
        }

        /// Calls `task` with elements `from..to`, cut at the end. Threads must pass ranges that do not overlap:
        /// the callers, `Team::split_costly` and `Team::split_pair`, pass consecutive ones.
        pub(super) fn with(&self, from: usize, to: usize, task: impl FnOnce(usize, &mut [T])) {
            let (from, to) = (from.min(self.len), to.min(self.len));
            if from < to {
                // SAFETY: the range lies inside the borrowed slice and no other thread has any of it.
                let part = unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) };
                task(from, part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_slice_once() {
        let crew = Crew::start(3).unwrap();
        for len in [0, 1, 7, 70_000, 150_001] {
            let mut data = vec![0usize; len];
            crew.run(|team| {
                team.split(&mut data, 7, |at, part| {
                    assert_eq!(at % 7, 0);
                    part.iter_mut().enumerate().for_each(|(i, x)| *x += at + i);
                });
            })
            .unwrap();
            assert!(data.iter().enumerate().all(|(i, &x)| x == i));
        }
    }

    #[test]
    fn pairs_are_divided_alike() {
        let crew = Crew::start(3).unwrap();
        let (mut a, mut b) = (vec![0usize; 70_001], vec![0usize; 70_001]);
        crew.run(|team| {
            team.split_pair([&mut a, &mut b], 7, 1, |at, x, y| {
                assert_eq!(x.len(), y.len());
                y.iter_mut().enumerate().for_each(|(i, y)| *y += at + i);
                x.iter_mut().for_each(|x| *x += 1);
            });
        })
        .unwrap();
        assert!(a.iter().all(|&x| x == 1) && b.iter().enumerate().all(|(i, &y)| y == i));
    }

    #[test]
    fn a_panic_is_an_error_and_the_crew_goes_on() {
        let crew = Crew::start(2).unwrap();
        let error = crew.run(|team| team.each(&|thread| assert_ne!(thread, 1, "boom"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("boom"), "{error}");
        assert_eq!(crew.run(|team| team.threads()).unwrap(), 2);
        assert!(crew.run(|_| panic!("again")).is_err());
    }

    #[test]
    fn threads_compute_alone() {
        let crew = Crew::start(2).unwrap();
        crew.run(|team| team.each(&|_| assert_eq!(rayon::current_num_threads(), 1))).unwrap();
    }
}
