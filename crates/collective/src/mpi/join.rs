//! How ranks meet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::library::{self, Communicator, Receiving, Sending};
use super::member::{Member, lost};
use super::process::process;
use super::wait::{Awaited, Patience};
use crate::{Error, JoinOptions, Result};

/// Tags in the communicator of all processes.
const HELLO: i32 = 17331;
const CREATION: i32 = 17332;

/// The first number of a greeting; a version.
const MAGIC: u64 = 0x6d73_6c69_7465_0001;

const LONGEST_GREETING: usize = 1024;

/// Joins the other ranks, which all do so; worlds are joined one after the other.
pub(super) fn join(options: &JoinOptions) -> Result<Member> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process(options)?;
    let all = Communicator::world()?;
    if options.rank >= options.size {
        let text = format!("there is no rank {} in a world of {}", options.rank, options.size);
        return Err(Error::InvalidArgument(text));
    }
    if all.rank != options.rank || all.size < options.size {
        return Err(Error::InvalidArgument(format!(
            "the environment says rank {} of {}, but MPI says rank {} of {}: this program uses {}, and is to be started by \
             its mpirun",
            options.rank, options.size, all.rank, all.size, process.version
        )));
    }
    let greetings = meet(&all, options)?;
    // All have come, so that making a communicator does not wait.
    let communicator = communicator(&all, options.size)?;
    let world = greetings[0].number;
    let hosts = greetings.into_iter().map(|greeting| greeting.host).collect();
    Member::new(communicator, world, hosts, options)
}

/// The communicator of the first `size` processes, apart from that of the program. All worlds of one size share it, and
/// have tags of their own.
fn communicator(all: &Communicator, size: usize) -> Result<Arc<Communicator>> {
    static MADE: Mutex<Vec<Arc<Communicator>>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = made.iter().find(|communicator| communicator.size == size) {
        return Ok(Arc::clone(known));
    }
    let new = Arc::new(all.of_first(size, CREATION)?);
    made.push(Arc::clone(&new));
    Ok(new)
}

/// What a rank says of itself.
#[derive(Debug)]
struct Greeting {
    /// Another one each time.
    number: u64,
    size: usize,
    host: String,
}

impl Greeting {
    fn own(size: usize) -> Self {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let number = time.as_nanos() as u64 ^ u64::from(std::process::id()) << 44;
        Greeting { number, size, host: library::host() }
    }

    fn encode(&self) -> Vec<u8> {
        let words = [MAGIC, self.number, self.size as u64].map(u64::to_le);
        let mut bytes = bytemuck::bytes_of(&words).to_vec();
        bytes.extend(self.host.bytes());
        bytes.truncate(LONGEST_GREETING);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, host) = bytes.split_at_checked(24)?;
        let words: Vec<u64> = words.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect();
        let size = usize::try_from(words[2]).ok()?;
        let host = String::from_utf8_lossy(host).into_owned();
        (words[0] == MAGIC).then_some(Greeting { number: words[1], size, host })
    }
}

/// Exchanges greetings with all ranks.
fn meet(all: &Communicator, options: &JoinOptions) -> Result<Vec<Greeting>> {
    let own = Greeting::own(options.size);
    let bytes = own.encode().into();
    let mut meeting = Meeting { incoming: Vec::new(), come: Vec::new(), outgoing: Vec::new() };
    for rank in 0..options.size {
        let others = rank != options.rank;
        let incoming = others.then(|| all.receive(vec![0; LONGEST_GREETING].into(), Some(rank), HELLO));
        meeting.incoming.push(incoming.transpose()?);
        meeting.come.push(None);
        if others {
            meeting.outgoing.push(all.send(&bytes, bytes.len(), rank, HELLO)?);
        }
    }
    meeting.come[options.rank] = Some(own);
    Patience::new(options.size).wait(&mut meeting, |meeting, waited| {
        options.cancellation.check(options.rank, &joining)?;
        if waited < options.timeout {
            return Ok(());
        }
        Err(Error::Timeout {
            missing: meeting.missing()?,
            waited: options.timeout,
            operation: joining(),
            detail: "MPI has started there, but the rank has not joined".to_owned(),
        })
    })?;
    let greetings: Vec<Greeting> = meeting.come.into_iter().flatten().collect();
    check_sizes(&greetings, options)?;
    Ok(greetings)
}

pub(super) fn joining() -> String {
    "joining the world".to_owned()
}

fn check_sizes(greetings: &[Greeting], options: &JoinOptions) -> Result<()> {
    let Some(other) = greetings.iter().position(|greeting| greeting.size != options.size) else {
        return Ok(());
    };
    let sides = [(options.rank, options.size), (other, greetings[other].size)];
    Err(Error::mismatch(sides.map(|(rank, size)| (rank, format!("a world of {size} ranks")))))
}

/// Greetings under way, by rank.
struct Meeting {
    incoming: Vec<Option<Receiving>>,
    come: Vec<Option<Greeting>>,
    outgoing: Vec<Sending>,
}

impl Awaited for Meeting {
    fn is_done(&mut self) -> Result<bool> {
        Ok(self.missing()?.is_empty())
    }

    fn missing(&mut self) -> Result<Vec<usize>> {
        for (rank, place) in self.incoming.iter_mut().enumerate() {
            let Some(receiving) = place else { continue };
            if let Some(received) = receiving.poll()? {
                let greeting = Greeting::decode(&received.block[..received.len]);
                let damaged = || lost(rank, "it greets in another version", joining());
                self.come[rank] = Some(greeting.ok_or_else(damaged)?);
                *place = None;
            }
        }
        // Greetings are short: they go when the others come.
        self.outgoing.retain_mut(|sending| sending.is_done() == Ok(false));
        Ok((0..self.come.len()).filter(|&rank| self.come[rank].is_none()).collect())
    }
}
