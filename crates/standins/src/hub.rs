//! Where the ranks of a group meet: a thread in the process that made the invitation. Ranks send what they do; when all
//! have sent the same, each gets its result. What does not fit is never answered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::faults::lock;
use crate::numbers::{Combine, Number};

/// What ranks do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Meet: `peer` is the rank, `count` the number of ranks, the data name the device.
    Join,
    AllReduce,
    AllGather,
    ReduceScatter,
    Broadcast,
    Reduce,
    Scatter,
    AllToAll,
    /// The data begin with the numbers of bytes that go to each rank, and that come from each.
    AllToAllV,
    Barrier,
    /// The data are color and key.
    Split,
    Finalize,
    Send,
    Receive,
    /// Go without a word to the others.
    Abort,
}

impl Act {
    const ALL: [Act; 15] = [
        Act::Join,
        Act::AllReduce,
        Act::AllGather,
        Act::ReduceScatter,
        Act::Broadcast,
        Act::Reduce,
        Act::Scatter,
        Act::AllToAll,
        Act::AllToAllV,
        Act::Barrier,
        Act::Split,
        Act::Finalize,
        Act::Send,
        Act::Receive,
        Act::Abort,
    ];
}

/// What one rank does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// For the answer.
    pub(crate) id: u64,
    pub(crate) act: Act,
    /// Root, other rank, or own rank.
    pub(crate) peer: usize,
    pub(crate) number: Number,
    pub(crate) combine: Combine,
    /// Elements of a block.
    pub(crate) count: usize,
    pub(crate) data: Vec<u8>,
}

/// The `id` of what is sent to a rank that has asked for nothing: that another one is gone.
pub(crate) const LOST: u64 = u64::MAX;

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let index = |found: Option<usize>| found.unwrap_or(0) as u64;
        let words = [
            self.id,
            index(Act::ALL.iter().position(|a| *a == self.act)),
            self.peer as u64,
            index(Number::ALL.iter().position(|n| *n == self.number)),
            index(Combine::ALL.iter().position(|c| *c == self.combine)),
            self.count as u64,
        ];
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        words.chain(self.data.iter().copied()).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Request> {
        let word = |at: usize| bytes.get(at * 8..at * 8 + 8)?.try_into().ok().map(u64::from_le_bytes);
        Some(Request {
            id: word(0)?,
            act: *Act::ALL.get(word(1)? as usize)?,
            peer: word(2)? as usize,
            number: *Number::ALL.get(word(3)? as usize)?,
            combine: *Combine::ALL.get(word(4)? as usize)?,
            count: word(5)? as usize,
            data: bytes[48..].to_vec(),
        })
    }

    /// Whether another rank does the same.
    fn fits(&self, other: &Request) -> bool {
        let same = |of: fn(&Request) -> usize| of(self) == of(other);
        self.act == other.act
            && self.number == other.number
            && self.combine == other.combine
            && (self.act == Act::Join || same(|r| r.peer))
            && same(|r| r.count)
    }
}

pub(crate) fn write_frame(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    let mut frame = (bytes.len() as u64).to_le_bytes().to_vec();
    frame.extend_from_slice(bytes);
    stream.write_all(&frame)
}

pub(crate) fn read_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut len = [0; 8];
    stream.read_exact(&mut len).ok()?;
    let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(len)).ok().filter(|len| *len < 1 << 32)?];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The address of a name; it goes with its processes.
pub(crate) fn address(name: &str) -> Option<SocketAddr> {
    SocketAddr::from_abstract_name(format!("mslite-standins-{name}")).ok()
}

/// A name that no other hub has.
fn new_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}-{}", std::process::id(), time.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Starts a hub, and gives its name as so many bytes.
pub(crate) fn invite<const N: usize>() -> [u8; N] {
    let (name, mut bytes) = (new_name(), [0; N]);
    start(&name);
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// The name of the hub that has given these bytes.
pub(crate) fn invited(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// Starts a hub of this name; it ends when the last one has gone. `false` when there is one.
pub(crate) fn start(name: &str) -> bool {
    let Some(address) = address(name) else { return false };
    let Ok(listener) = UnixListener::bind_addr(&address) else { return false };
    std::thread::spawn(move || {
        let hub = Arc::new(Hub::default());
        for stream in listener.incoming().flatten() {
            if hub.is_over.load(Ordering::Acquire) {
                return;
            }
            hub.guests.fetch_add(1, Ordering::AcqRel);
            let (hub, address) = (Arc::clone(&hub), address.clone());
            std::thread::spawn(move || {
                hub.serve(stream);
                if hub.guests.fetch_sub(1, Ordering::AcqRel) == 1 {
                    hub.is_over.store(true, Ordering::Release);
                    // Wakes the listener.
                    let _ = UnixStream::connect_addr(&address);
                }
            });
        }
    });
    true
}

#[derive(Default)]
struct Hub {
    rooms: Mutex<HashMap<String, Arc<Mutex<Room>>>>,
    guests: AtomicUsize,
    is_over: AtomicBool,
}

/// The ranks of one group.
#[derive(Default)]
struct Room {
    name: String,
    /// Those that came, until all have.
    arrivals: Vec<(usize, UnixStream)>,
    members: Vec<Member>,
    splits: usize,
}

struct Member {
    writer: UnixStream,
    requests: VecDeque<Request>,
    /// By the other rank.
    sends: BTreeMap<usize, VecDeque<Request>>,
    receives: BTreeMap<usize, VecDeque<Request>>,
    has_finalized: bool,
}

impl Hub {
    fn serve(&self, mut stream: UnixStream) {
        let Some(name) = read_frame(&mut stream).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        else {
            return;
        };
        let room = Arc::clone(lock(&self.rooms).entry(name.clone()).or_default());
        lock(&room).name = name;
        let mut rank = None;
        while let Some(request) = read_frame(&mut stream).and_then(|bytes| Request::decode(&bytes)) {
            match request.act {
                Act::Abort => return,
                Act::Join => {
                    rank = Some(request.peer);
                    lock(&room).join(&request, &stream);
                }
                _ => lock(&room).take(rank.unwrap_or(0), request),
            }
        }
        lock(&room).lose(rank);
    }
}

fn answer(writer: &mut UnixStream, id: u64, data: &[u8]) {
    let mut frame = id.to_le_bytes().to_vec();
    frame.extend_from_slice(data);
    // Who is gone needs no answer.
    let _ = write_frame(writer, &frame);
}

impl Room {
    /// Everybody is told when the last one has come.
    fn join(&mut self, request: &Request, stream: &UnixStream) {
        let Ok(writer) = stream.try_clone() else { return };
        self.arrivals.push((request.peer, writer));
        self.arrivals.sort_by_key(|(rank, _)| *rank);
        let complete = self.arrivals.iter().map(|(rank, _)| *rank).eq(0..request.count);
        if !complete {
            return;
        }
        for (_, mut writer) in std::mem::take(&mut self.arrivals) {
            answer(&mut writer, 0, &[]);
            self.members.push(Member {
                writer,
                requests: VecDeque::new(),
                sends: BTreeMap::new(),
                receives: BTreeMap::new(),
                has_finalized: false,
            });
        }
    }

    fn take(&mut self, rank: usize, request: Request) {
        let Some(member) = self.members.get_mut(rank) else { return };
        let peer = request.peer;
        match request.act {
            Act::Send => {
                member.sends.entry(peer).or_default().push_back(request);
                self.deliver(rank, peer);
            }
            Act::Receive => {
                member.receives.entry(peer).or_default().push_back(request);
                self.deliver(peer, rank);
            }
            _ => {
                member.requests.push_back(request);
                self.perform();
            }
        }
    }

    /// The first message between two ranks, when both are there and agree.
    fn deliver(&mut self, source: usize, destination: usize) {
        if source.max(destination) >= self.members.len() {
            return;
        }
        let sent = self.members[source].sends.get(&destination).and_then(VecDeque::front);
        let wanted = self.members[destination].receives.get(&source).and_then(VecDeque::front);
        let (Some(sent), Some(wanted)) = (sent, wanted) else { return };
        if (sent.number, sent.count) != (wanted.number, wanted.count) {
            return;
        }
        let sent = self.members[source].sends.entry(destination).or_default().pop_front();
        let wanted = self.members[destination].receives.entry(source).or_default().pop_front();
        let (Some(sent), Some(wanted)) = (sent, wanted) else { return };
        answer(&mut self.members[destination].writer, wanted.id, &sent.data);
        answer(&mut self.members[source].writer, sent.id, &[]);
    }

    /// A collective that stands first at everybody.
    fn perform(&mut self) {
        let fronts: Vec<&Request> = self.members.iter().filter_map(|m| m.requests.front()).collect();
        let all_fit = fronts.len() == self.members.len() && fronts.iter().all(|r| r.fits(fronts[0]));
        if !all_fit || (fronts[0].act == Act::AllToAllV && !various_fit(&fronts)) {
            return;
        }
        if fronts[0].act == Act::Split {
            self.splits += 1;
        }
        let results = results(&fronts, &format!("{}/{}", self.name, self.splits));
        for (member, result) in self.members.iter_mut().zip(results) {
            let Some(request) = member.requests.pop_front() else { continue };
            member.has_finalized |= request.act == Act::Finalize;
            answer(&mut member.writer, request.id, &result);
        }
    }

    /// A rank whose process has ended without a word.
    fn lose(&mut self, rank: Option<usize>) {
        let gone = rank.and_then(|rank| self.members.get(rank));
        if gone.is_none_or(|member| member.has_finalized) {
            return;
        }
        for member in &mut self.members {
            answer(&mut member.writer, LOST, &[]);
        }
    }
}

/// What each rank gets.
fn results(requests: &[&Request], room: &str) -> Vec<Vec<u8>> {
    let (first, n) = (requests[0], requests.len());
    let block = first.count * first.number.size();
    let part =
        |rank: usize, i: usize| requests[rank].data.get(i * block..(i + 1) * block).unwrap_or_default();
    let all = |i: usize| (0..n).map(move |rank| part(rank, i));
    let reduced = |i: usize| first.number.reduce(first.combine, &all(i).collect::<Vec<_>>());
    let at_root = |result: Vec<u8>| {
        (0..n).map(|rank| if rank == first.peer { result.clone() } else { Vec::new() }).collect()
    };
    match first.act {
        Act::AllReduce => vec![reduced(0); n],
        Act::ReduceScatter => (0..n).map(reduced).collect(),
        Act::Reduce => at_root(reduced(0)),
        Act::AllGather => vec![all(0).collect::<Vec<_>>().concat(); n],
        Act::Broadcast => vec![part(first.peer, 0).to_vec(); n],
        Act::Scatter => (0..n).map(|i| part(first.peer, i).to_vec()).collect(),
        Act::AllToAll => (0..n).map(|i| all(i).collect::<Vec<_>>().concat()).collect(),
        Act::AllToAllV => various(requests),
        Act::Split => split(requests, room),
        _ => vec![Vec::new(); n],
    }
}

/// Bytes that `rank` says to send to, or to get from, another.
fn announced(request: &Request, n: usize, gets: bool, peer: usize) -> usize {
    let at = (usize::from(gets) * n + peer) * 8;
    let bytes = request.data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    u64::from_le_bytes(bytes.unwrap_or_default()) as usize
}

fn various_fit(requests: &[&Request]) -> bool {
    let n = requests.len();
    let fits = |from: usize, to: usize| {
        announced(requests[from], n, false, to) == announced(requests[to], n, true, from)
    };
    (0..n).all(|from| (0..n).all(|to| fits(from, to)))
}

fn various(requests: &[&Request]) -> Vec<Vec<u8>> {
    let n = requests.len();
    let part = |from: usize, to: usize| {
        let before: usize = (0..to).map(|peer| announced(requests[from], n, false, peer)).sum();
        let start = 2 * n * 8 + before;
        requests[from].data.get(start..start + announced(requests[from], n, false, to)).unwrap_or_default()
    };
    (0..n).map(|to| (0..n).flat_map(|from| part(from, to).to_vec()).collect()).collect()
}

/// For each rank, nothing, or rank, number of ranks and name of the new room.
fn split(requests: &[&Request], room: &str) -> Vec<Vec<u8>> {
    let word = |request: &Request, at: usize| {
        let bytes = request.data.get(at * 8..at * 8 + 8).and_then(|b| b.try_into().ok());
        i64::from_le_bytes(bytes.unwrap_or_default())
    };
    let part = |rank: usize| {
        let color = word(requests[rank], 0);
        if color < 0 {
            return Vec::new();
        }
        let mut members: Vec<usize> =
            (0..requests.len()).filter(|&r| word(requests[r], 0) == color).collect();
        members.sort_by_key(|&r| word(requests[r], 1));
        let place = members.iter().position(|&r| r == rank).unwrap_or(0) as u64;
        let words = [place, members.len() as u64].into_iter().flat_map(u64::to_le_bytes);
        words.chain(format!("{room}/{color}").into_bytes()).collect()
    };
    (0..requests.len()).map(part).collect()
}
