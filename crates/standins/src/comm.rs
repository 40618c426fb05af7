//! One rank's end of a group, behind the functions of both libraries.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::device::{COMMUNICATORS, Pin, Stream, count, new_handle};
use crate::faults::{Fault, fault, lock, violation};
use crate::hub::{Act, Request};
use crate::link::Link;
use crate::numbers::{Combine, Number};

/// How often a call that has begun is seen not to have ended.
const DELAY: usize = 2;

/// One rank's end of a group.
pub(crate) struct Comm {
    pub(crate) handle: usize,
    pub(crate) device: usize,
    hub: String,
    /// Room, rank, number of ranks.
    place: OnceLock<(String, usize, usize)>,
    link: OnceLock<Arc<Link>>,
    /// Calls that go on in the background.
    busy: AtomicUsize,
    delays: AtomicUsize,
    has_failed: AtomicBool,
    has_finalized: AtomicBool,
    has_ended: AtomicBool,
    operations: AtomicUsize,
    turn: AtomicBool,
    /// Keeps operations of one group in one order.
    order: Mutex<()>,
}

/// An operation whose arguments are right.
pub(crate) struct Operation {
    pub(crate) stream: Arc<Stream>,
    pub(crate) act: Act,
    pub(crate) peer: usize,
    pub(crate) number: Number,
    pub(crate) combine: Combine,
    pub(crate) count: usize,
    /// What is sent before the data.
    pub(crate) header: Vec<u8>,
    /// What is sent, in order.
    pub(crate) sends: Vec<Pin>,
    /// Where the answer goes, in order.
    pub(crate) receives: Vec<Pin>,
}

/// The right to call something; given back when dropped.
pub(crate) struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Comm {
    pub(crate) fn new(device: usize, hub: &str) -> Arc<Comm> {
        Arc::new(Comm {
            handle: new_handle(),
            device,
            hub: hub.to_owned(),
            place: OnceLock::new(),
            link: OnceLock::new(),
            busy: AtomicUsize::new(0),
            delays: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            has_finalized: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            operations: AtomicUsize::new(0),
            turn: AtomicBool::new(false),
            order: Mutex::new(()),
        })
    }

    /// Gives it to the caller, who has to end it.
    pub(crate) fn hand_out(&self) {
        count(&COMMUNICATORS, self.device, true);
    }

    /// `None`, and a note, while another thread has it.
    pub(crate) fn turn(&self, what: &str) -> Option<Turn<'_>> {
        if self.turn.swap(true, Ordering::AcqRel) {
            violation(format!("{what}: two threads use a communicator at the same time"));
            return None;
        }
        Some(Turn(&self.turn))
    }

    pub(crate) fn rank(&self) -> usize {
        self.place.get().map_or(0, |place| place.1)
    }

    pub(crate) fn size(&self) -> usize {
        self.place.get().map_or(1, |place| place.2)
    }

    /// The same at all ranks.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.hub, self.place.get().map_or("", |place| &place.0))
    }

    /// Whether the next operation is to be refused; the process may end here.
    pub(crate) fn refuses(&self) -> bool {
        let before = self.operations.load(Ordering::Acquire);
        match fault(self.device) {
            Some(Fault::Die(after)) if before >= after => std::process::abort(),
            fault => matches!(fault, Some(Fault::Refuse(after)) if before >= after),
        }
    }

    /// Does something in a thread, and counts as busy meanwhile.
    fn in_background(self: &Arc<Self>, work: impl FnOnce(&Arc<Comm>) + Send + 'static) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        let comm = Arc::clone(self);
        std::thread::spawn(move || {
            work(&comm);
            comm.busy.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Meets the others, in the background.
    pub(crate) fn join(self: &Arc<Self>, room: String, rank: usize, size: usize) {
        self.in_background(move |comm| {
            comm.join_now(&room, rank, size, None);
        });
    }

    /// Meets the others, within a time; `false` when they do not come.
    pub(crate) fn join_now(&self, room: &str, rank: usize, size: usize, time: Option<Duration>) -> bool {
        let _ = self.place.set((room.to_owned(), rank, size));
        let since = Instant::now();
        let has_ended =
            || self.has_ended.load(Ordering::Acquire) || time.is_some_and(|time| since.elapsed() > time);
        match fault(self.device) {
            Some(Fault::JoinFails) => self.fail(),
            Some(Fault::JoinHangs) => {
                while !has_ended() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            _ => match Link::join(&self.hub, room, rank, size, &has_ended) {
                Some(link) => {
                    let _ = self.link.set(link);
                }
                None => self.fail(),
            },
        }
        self.link.get().is_some()
    }

    fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// The part with this color, which joins by itself; `None` without a color.
    pub(crate) fn split(self: &Arc<Self>, color: i64, key: i64) -> Option<Arc<Comm>> {
        let part = (color >= 0).then(|| Comm::new(self.device, &self.hub));
        let mine = part.clone();
        if let Some(part) = &part {
            part.busy.fetch_add(1, Ordering::AcqRel);
        }
        let data = [color, key].into_iter().flat_map(i64::to_le_bytes).collect();
        let answer = self.request(Request { data, ..Request::bare(Act::Split) });
        self.in_background(move |comm| {
            let Some(answer) = answer.and_then(|answer| answer.recv().ok()) else { return comm.fail() };
            let Some(part) = mine else { return };
            let word = |at: usize| {
                let bytes = answer.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
                u64::from_le_bytes(bytes.unwrap_or_default()) as usize
            };
            let room = String::from_utf8_lossy(&answer[16..]).into_owned();
            part.join(room, word(0), word(1));
            part.busy.fetch_sub(1, Ordering::AcqRel);
        });
        part
    }

    /// Asks the others, and waits for the answer.
    pub(crate) fn ask(&self, request: Request) -> Option<Vec<u8>> {
        self.request(request)?.recv().ok()
    }

    pub(crate) fn hub(&self) -> &str {
        &self.hub
    }

    fn request(&self, request: Request) -> Option<Receiver<Vec<u8>>> {
        self.link.get().map(|link| link.request(request))
    }

    /// Says good-bye, in the background, until all have.
    pub(crate) fn finalize(self: &Arc<Self>) {
        let answer = self.request(Request::bare(Act::Finalize));
        self.in_background(move |comm| {
            if answer.is_some_and(|answer| answer.recv().is_ok()) {
                comm.has_finalized.store(true, Ordering::Release);
            }
        });
    }

    pub(crate) fn has_finalized(&self) -> bool {
        self.has_finalized.load(Ordering::Acquire)
    }

    /// Ends everything that waits for others.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        if let Some(link) = self.link.get() {
            link.abort();
        }
        count(&COMMUNICATORS, self.device, false);
    }

    /// Makes what was called last take some time.
    pub(crate) fn delay(&self) {
        self.delays.store(DELAY, Ordering::Release);
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0 || self.delays.load(Ordering::Acquire) > 0
    }

    /// `None` while a call goes on; then whether all is well.
    pub(crate) fn state(&self) -> Option<Result<(), ()>> {
        let delays = self.delays.load(Ordering::Acquire);
        self.delays.store(delays.saturating_sub(1), Ordering::Release);
        let is_lost = self.link.get().is_some_and(|link| link.is_lost.load(Ordering::Acquire));
        if self.has_failed.load(Ordering::Acquire) || is_lost && !self.has_finalized() {
            return Some(Err(()));
        }
        (!(delays > 0 || self.busy.load(Ordering::Acquire) > 0)).then_some(Ok(()))
    }

    /// Whether something new may be called; a note if not.
    pub(crate) fn is_ready(&self, what: &str) -> bool {
        if self.is_busy() {
            violation(format!("{what} while an earlier call goes on"));
        } else if self.link.get().is_none() {
            violation(format!("{what} in a group that was never joined"));
        }
        !self.is_busy() && self.link.get().is_some()
    }

    /// Operations that are done at the same time.
    pub(crate) fn enqueue(self: &Arc<Self>, operations: Vec<Operation>) {
        let _order = lock(&self.order);
        let before = self.operations.fetch_add(1, Ordering::AcqRel);
        let mut operations = operations;
        while let Some(stream) = operations.first().map(|operation| Arc::clone(&operation.stream)) {
            let is_its = |operation: &mut Operation| Arc::ptr_eq(&operation.stream, &stream);
            let its: Vec<Operation> = operations.extract_if(.., is_its).collect();
            let comm = Arc::clone(self);
            stream.enqueue(move || comm.perform(its, before));
        }
    }

    /// In the thread of a stream.
    fn perform(&self, operations: Vec<Operation>, before: usize) {
        let Some(link) = self.link.get() else { return };
        match fault(self.device) {
            Some(Fault::AsyncError(after)) if before >= after => {
                self.fail();
                let _ = link.never().recv();
                return;
            }
            Some(Fault::Hang(after)) if before >= after => {
                let _ = link.never().recv();
                return;
            }
            _ => {}
        }
        let answers: Vec<_> = operations.iter().map(|operation| link.request(operation.request())).collect();
        for (operation, answer) in operations.iter().zip(answers) {
            let Ok(data) = answer.recv() else { return };
            let mut rest = &data[..];
            for place in &operation.receives {
                let (part, others) = rest.split_at(place.len().min(rest.len()));
                place.write(part);
                rest = others;
            }
        }
    }
}

impl Operation {
    fn request(&self) -> Request {
        let mut data = self.header.clone();
        data.extend(self.sends.iter().flat_map(Pin::read));
        let Operation { act, peer, number, combine, count, .. } = *self;
        Request { id: 0, act, peer, number, combine, count, data }
    }
}
