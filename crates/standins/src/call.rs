//! What callers ask for, checked alike for both libraries.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex};

use crate::comm::{Comm, Operation};
use crate::device::{Pin, Stream};
use crate::faults::{lock, violation};
use crate::hub::Act;
use crate::numbers::{Combine, Number};

/// What stands for an object of a library.
pub(crate) type Handle = *mut c_void;

/// The communicators of a library that callers have.
pub(crate) struct Comms(Mutex<BTreeMap<usize, Arc<Comm>>>);

impl Comms {
    pub(crate) const fn new() -> Self {
        Comms(Mutex::new(BTreeMap::new()))
    }

    /// Gives one to the caller, who has to end it.
    pub(crate) fn hand_out(&self, comm: Arc<Comm>) -> Handle {
        comm.hand_out();
        let handle = comm.handle;
        lock(&self.0).insert(handle, comm);
        handle as Handle
    }

    /// Takes one back.
    pub(crate) fn end(&self, comm: &Comm) {
        lock(&self.0).remove(&comm.handle);
        comm.end();
    }

    /// `None`, and a note, for what is no communicator.
    pub(crate) fn find(&self, what: &str, handle: Handle) -> Option<Arc<Comm>> {
        let found = lock(&self.0).get(&(handle as usize)).cloned();
        if found.is_none() {
            violation(format!("{what}: {handle:?} is no communicator, or has ended"));
        }
        found
    }
}

/// What the arguments of an operation say, with a library's numbers for types and reductions.
pub(crate) struct Call {
    pub(crate) what: &'static str,
    act: Act,
    send: usize,
    recv: usize,
    /// Elements of a block.
    pub(crate) count: u64,
    number: c_int,
    combine: c_int,
    peer: i64,
    header: Vec<u8>,
    sends: Vec<(usize, u64)>,
    receives: Vec<(usize, u64)>,
}

impl Call {
    /// Where only one of the addresses is given, it stands for both.
    pub(crate) fn new(
        what: &'static str,
        act: Act,
        send: *const c_void,
        recv: *const c_void,
        count: u64,
        number: c_int,
    ) -> Call {
        let (send, recv, combine, peer) = (send as usize, recv as usize, 0, 0);
        let (header, sends, receives) = (Vec::new(), Vec::new(), Vec::new());
        Call { what, act, send, recv, count, number, combine, peer, header, sends, receives }
    }

    pub(crate) fn reduces(self, combine: c_int) -> Call {
        Call { combine, ..self }
    }

    /// The root, or the other rank.
    pub(crate) fn peer(self, peer: impl Into<i64>) -> Call {
        Call { peer: peer.into(), ..self }
    }

    /// Blocks of different sizes, as addresses and elements, after a header.
    pub(crate) fn parts(
        self,
        header: Vec<u8>,
        sends: Vec<(usize, u64)>,
        receives: Vec<(usize, u64)>,
    ) -> Call {
        Call { header, sends, receives, ..self }
    }

    pub(crate) fn has_null(&self) -> bool {
        self.act != Act::Barrier && [self.send, self.recv].contains(&0)
    }

    /// `None`, and a note, where an argument is wrong.
    pub(crate) fn check(
        self,
        comm: &Comm,
        stream: Handle,
        number: fn(c_int) -> Option<Number>,
        combines: &[Combine],
    ) -> Option<Operation> {
        let combine = usize::try_from(self.combine).ok().and_then(|combine| combines.get(combine)).copied();
        let peer = usize::try_from(self.peer).ok().filter(|peer| *peer < comm.size());
        let number = self.known(number(self.number), || format!("type {} is unknown", self.number))?;
        let combine = self.known(combine, || format!("reduction {} is unknown", self.combine))?;
        let peer = self.known(peer, || format!("there is no rank {}", self.peer))?;
        let stream = Stream::find(self.what, stream as usize)?;
        let is_its = (stream.device == comm.device).then_some(());
        self.known(is_its, || format!("a stream of device {}, not {}", stream.device, comm.device))?;
        let [sent, received] = blocks(self.act, comm.rank() == peer, comm.size() as u64);
        let pins = |address: usize, blocks: u64, parts: &[(usize, u64)]| {
            let whole = (blocks > 0).then_some((address, self.count * blocks));
            let pin =
                |(address, count)| Pin::new(self.what, comm.device, address, count as usize * number.size());
            whole.into_iter().chain(parts.iter().copied()).map(pin).collect::<Option<Vec<Pin>>>()
        };
        let sends = pins(self.send, sent, &self.sends)?;
        let receives = pins(self.recv, received, &self.receives)?;
        let (act, count, header) = (self.act, self.count as usize, self.header);
        Some(Operation { stream, act, peer, number, combine, count, header, sends, receives })
    }

    fn known<T>(&self, value: Option<T>, wrong: impl FnOnce() -> String) -> Option<T> {
        if value.is_none() {
            violation(format!("{}: {}", self.what, wrong()));
        }
        value
    }
}

/// How many blocks of one size one of `n` ranks sends and receives.
fn blocks(act: Act, is_root: bool, n: u64) -> [u64; 2] {
    match act {
        Act::AllReduce => [1, 1],
        Act::AllGather => [1, n],
        Act::ReduceScatter => [n, 1],
        Act::Broadcast => [u64::from(is_root), 1],
        Act::Reduce => [1, u64::from(is_root)],
        Act::Scatter => [if is_root { n } else { 0 }, 1],
        Act::AllToAll => [n, n],
        Act::Send => [1, 0],
        Act::Receive => [0, 1],
        _ => [0, 0],
    }
}
