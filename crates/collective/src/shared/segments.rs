//! Memory of one rank in which the others read and write.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use super::handle::Handle;
use super::layout::{SEGMENTS, rank_segment, segment};
use super::member::Member;
use super::memory::{Region, Span};
use crate::{Error, Result};

/// One piece of a rank's memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Segment {
    region: Arc<Region>,
    owner: Weak<Member>,
    index: usize,
}

/// Where a piece of this rank's memory is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    address: usize,
    len: usize,
    index: usize,
    generation: u32,
}

/// A place in the memory of a rank, as a word: its address, if all ranks are threads of one process, else segment and
/// offset. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

const IN_SEGMENT: u64 = 1 << 63;
const GENERATIONS: u32 = 1 << 16;
const OFFSET_BITS: u32 = 40;

impl Place {
    fn in_segment(placed: &Placed, offset: usize) -> Option<Self> {
        let offset = u64::try_from(offset).ok().filter(|offset| offset >> OFFSET_BITS == 0)?;
        let index = (placed.index as u64) << (OFFSET_BITS + 16);
        Some(Place(IN_SEGMENT | index | u64::from(placed.generation) << OFFSET_BITS | offset))
    }

    fn segment(self) -> (usize, u32) {
        let index = (self.0 & !IN_SEGMENT) >> (OFFSET_BITS + 16);
        (index as usize, (self.0 >> OFFSET_BITS) as u32 % GENERATIONS)
    }

    fn offset(self) -> usize {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as usize
    }
}

/// The memory of other ranks that a group has opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Segments by rank and index.
    segments: Vec<Vec<Option<OpenSegment>>>,
    /// Where the buffers of the current operation are, by member.
    places: Vec<[Option<Place>; 2]>,
}

/// A segment, with the generation of its entry.
type OpenSegment = (u32, Arc<Region>);

impl Opened {
    /// Nothing yet, with room for the places of so many members.
    pub(super) fn of(members: usize) -> Self {
        Opened { segments: Vec::new(), places: Vec::with_capacity(members) }
    }

    /// Forgets the places of the last operation.
    pub(super) fn begin(&mut self) {
        self.places.clear();
    }

    /// Has the buffers of the next member at hand, which is a rank of the world.
    pub(super) fn find(&mut self, member: &Member, rank: usize, places: [u64; 2]) -> Result<()> {
        let places = places.map(|place| (place != 0).then_some(Place(place)));
        if rank != member.rank {
            places.into_iter().flatten().try_for_each(|place| self.prepare(member, rank, place))?;
        }
        self.places.push(places);
        Ok(())
    }

    /// Where one of the buffers of a member is, if it has said so.
    pub(super) fn place(&self, member: usize, which: usize) -> Option<Place> {
        self.places[member][which]
    }

    /// Whether a member writes where others still read: each of so many members writes all of its own result, as
    /// somebody's cannot be found, and somebody's is where its contribution is.
    pub(super) fn would_write_early(&self, members: usize) -> bool {
        let places = &self.places[..members];
        places.iter().any(|[_, recv]| recv.is_none()) && places.iter().any(|[send, recv]| send == recv)
    }

    fn prepare(&mut self, member: &Member, rank: usize, place: Place) -> Result<()> {
        if place.0 & IN_SEGMENT == 0 {
            return Ok(());
        }
        let (index, generation) = place.segment();
        if self.segments.is_empty() {
            self.segments.resize_with(member.size, Vec::new);
        }
        let segments = &mut self.segments[rank];
        if segments.len() <= index {
            segments.resize(index + 1, None);
        }
        if segments[index].as_ref().is_none_or(|(known, _)| *known != generation) {
            segments[index] = Some((generation, member.open_segment(rank, index)?));
        }
        Ok(())
    }

    /// The bytes at a place that was prepared.
    pub(super) fn span(&self, rank: usize, place: Place, len: usize) -> Span {
        if place.0 & IN_SEGMENT == 0 {
            return Span::at(place.0 as usize, len);
        }
        let (index, _) = place.segment();
        let (_, region) =
            self.segments[rank][index].as_ref().expect("places are prepared before they are used");
        region.span(place.offset(), len)
    }
}

impl Member {
    /// Makes memory that the other ranks can read and write.
    pub(crate) fn allocate(self: &Arc<Self>, len: usize) -> Result<Segment> {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let free = (0..SEGMENTS).find(|index| placed.iter().all(|p| p.index != *index));
        let Some(index) = free else {
            return Err(Error::Unsupported(format!(
                "a rank has at most {SEGMENTS} pieces of registered memory"
            )));
        };
        let at = rank_segment(self.rank, index);
        let region = Handle::at(&self.region, at + segment::HANDLE).create(len.max(1))?;
        let generation = self.region.word(at + segment::GENERATION);
        let next = generation.load(Ordering::Relaxed).wrapping_add(1) % GENERATIONS;
        self.region.wide(at + segment::LEN).store(region.len() as u64, Ordering::Relaxed);
        generation.store(next, Ordering::Release);
        placed.push(Placed {
            address: region.span(0, 0).address(),
            len: region.len(),
            index,
            generation: next,
        });
        Ok(Segment { region, owner: Arc::downgrade(self), index })
    }

    /// Where the other ranks find these bytes, as words; 0 where they cannot.
    pub(super) fn places<const N: usize>(&self, spans: [Option<Span>; N]) -> [u64; N] {
        if self.is_one_process {
            return spans.map(|span| span.map_or(0, |span| span.address() as u64));
        }
        let placed = self.placed.read().unwrap_or_else(PoisonError::into_inner);
        spans
            .map(|span| {
                let span = span?;
                let holds = |p: &&Placed| {
                    span.address() >= p.address && span.address() + span.len() <= p.address + p.len
                };
                let found = placed.iter().find(holds)?;
                Place::in_segment(found, span.address() - found.address)
            })
            .map(|place| place.map_or(0, |place| place.0))
    }

    fn open_segment(&self, rank: usize, index: usize) -> Result<Arc<Region>> {
        let at = rank_segment(rank, index.min(SEGMENTS - 1));
        let len = self.region.wide(at + segment::LEN).load(Ordering::Relaxed) as usize;
        let operation = || format!("opening registered memory of rank {rank}");
        self.open_handle(Handle::at(&self.region, at + segment::HANDLE), len, rank, &operation)
    }
}

impl Segment {
    /// The bytes.
    pub(crate) fn span(&self) -> Span {
        self.region.span(0, self.region.len())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            let mut placed = owner.placed.write().unwrap_or_else(PoisonError::into_inner);
            placed.retain(|placed| placed.index != self.index);
        }
    }
}
