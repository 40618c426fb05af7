//! One rank's connection to the others of its group.

use std::collections::HashMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::faults::lock;
use crate::hub::{self, Act, LOST, Request, read_frame, write_frame};
use crate::numbers::{Combine, Number};

/// A connection to a hub.
pub(crate) struct Link {
    writer: Mutex<UnixStream>,
    waiting: Mutex<Option<HashMap<u64, Sender<Vec<u8>>>>>,
    next: AtomicU64,
    /// Whether another rank, or the hub, is gone.
    pub(crate) is_lost: AtomicBool,
}

impl Request {
    /// A request with nothing but the act.
    pub(crate) fn bare(act: Act) -> Request {
        let (number, combine) = (Number::I8, Combine::Sum);
        Request { id: 0, act, peer: 0, number, combine, count: 0, data: Vec::new() }
    }
}

impl Link {
    /// Connects, and waits until all ranks of the room have. `None` when the hub does not come within the time, or
    /// `gives_up` says so.
    pub(crate) fn join(
        hub: &str,
        room: &str,
        rank: usize,
        size: usize,
        gives_up: &dyn Fn() -> bool,
    ) -> Option<Arc<Link>> {
        let stream = connect(hub, gives_up)?;
        let mut reader = stream.try_clone().ok()?;
        let link = Arc::new(Link {
            writer: Mutex::new(stream),
            waiting: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
        });
        write_frame(&mut *lock(&link.writer), room.as_bytes()).ok()?;
        let reading = Arc::clone(&link);
        std::thread::spawn(move || {
            while let Some(frame) = read_frame(&mut reader) {
                reading.receive(&frame);
            }
            reading.is_lost.store(true, Ordering::Release);
        });
        let joined = link.request(Request { peer: rank, count: size, ..Request::bare(Act::Join) });
        while !gives_up() && !link.is_lost.load(Ordering::Acquire) {
            if joined.recv_timeout(Duration::from_millis(2)).is_ok() {
                return Some(link);
            }
        }
        link.abort();
        None
    }

    fn receive(&self, frame: &[u8]) {
        let Some((id, data)) = frame.split_first_chunk::<8>() else { return };
        match u64::from_le_bytes(*id) {
            LOST => self.is_lost.store(true, Ordering::Release),
            id => {
                let waiting = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&id));
                // Nobody may wait any more.
                waiting.map(|sender| sender.send(data.to_vec()));
            }
        }
    }

    /// Sends a request; the answer comes by itself, or never. After an abort the receiver fails.
    pub(crate) fn request(&self, mut request: Request) -> Receiver<Vec<u8>> {
        let (sender, receiver) = channel();
        request.id = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.insert(request.id, sender);
        }
        // A hub that is gone is noticed by the reader.
        let _ = write_frame(&mut *lock(&self.writer), &request.encode());
        receiver
    }

    /// What never comes, unless the link is aborted.
    pub(crate) fn never(&self) -> Receiver<Vec<u8>> {
        let (sender, receiver) = channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).as_mut().and_then(|waiting| waiting.insert(id, sender));
        receiver
    }

    /// Goes without a word to the others; what waits fails.
    pub(crate) fn abort(&self) {
        *lock(&self.waiting) = None;
        let mut writer = lock(&self.writer);
        let _ = write_frame(&mut *writer, &Request::bare(Act::Abort).encode());
        let _ = writer.flush().and_then(|()| writer.shutdown(Shutdown::Both));
    }
}

fn connect(hub: &str, gives_up: &dyn Fn() -> bool) -> Option<UnixStream> {
    let address = hub::address(hub)?;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(60) && !gives_up() {
        if let Ok(stream) = UnixStream::connect_addr(&address) {
            return Some(stream);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
