//! The arguments of an operation: checked, and in terms of what libraries know.

use mslite_tensor::{Buffer, DType, DeviceApi, HostSpan};

use crate::{CollectiveKind, CollectiveOp, Error, Group, Reduction, Result, reduce};

/// The checked arguments of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// What this rank gives, if it gives something.
    pub(crate) send: Option<Place>,
    /// What this rank gets, if it gets something.
    pub(crate) recv: Option<Place>,
    pub(crate) dtype: DType,
    /// Elements of a block: the same at all members.
    pub(crate) count: usize,
}

/// Where a buffer is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Address and number of bytes on the device of the group.
    Device(usize, usize),
    Host(HostSpan),
}

impl Call {
    /// # Errors
    /// [`Error::InvalidArgument`] and [`Error::Unsupported`], alike at all members that ask alike.
    pub(crate) fn check(
        op: &CollectiveOp,
        group: &Group,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        api: DeviceApi,
    ) -> Result<Call> {
        let invalid = |why: String| Error::InvalidArgument(format!("{op}: {why}"));
        if !group.answers_to(&op.group) {
            return Err(invalid(format!("this is group {:?}", group.name.as_str())));
        }
        if let Some(peer) = op.kind.peer().filter(|&peer| peer >= group.size()) {
            return Err(invalid(format!("there is no rank {peer} in a group of {}", group.size())));
        }
        let blocks = Blocks::of(&op.kind, group.rank, group.size());
        let dtype = if blocks.send.is_some() { send.dtype() } else { recv.dtype() };
        if blocks.recv.is_some() && recv.dtype() != dtype {
            return Err(invalid(format!("send is {dtype}, but recv is {}", recv.dtype())));
        }
        if let Some(reduction) = op.kind.reduction().filter(|&r| !reduce::supports(dtype, r)) {
            return Err(Error::Unsupported(format!("{op}: {reduction} of {dtype}")));
        }
        let place = |buffer: &dyn Buffer| {
            Place::of(buffer, api).ok_or_else(|| {
                Error::Unsupported(format!("{op} on a buffer in the memory of neither {api} nor the host"))
            })
        };
        let send = blocks.send.map(|_| place(send)).transpose()?;
        let recv = blocks.recv.map(|_| place(recv)).transpose()?;
        let count = blocks.count(send, recv, dtype.size()).map_err(invalid)?;
        blocks.check_overlap(send, recv, group.rank).map_err(invalid)?;
        Ok(Call { send, recv, dtype, count })
    }
}

impl Place {
    fn of(buffer: &dyn Buffer, api: DeviceApi) -> Option<Place> {
        match buffer.device().filter(|span| span.api == api) {
            Some(span) => Some(Place::Device(span.address, span.len)),
            None => buffer.host().map(Place::Host),
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Place::Device(_, len) => len,
            Place::Host(span) => span.len,
        }
    }

    fn address(self) -> usize {
        match self {
            Place::Device(address, _) => address,
            Place::Host(span) => span.ptr.as_ptr() as usize,
        }
    }
}

/// How many blocks each buffer of an operation has at a member; `None` for a buffer that is not used.
struct Blocks {
    send: Option<usize>,
    recv: Option<usize>,
}

impl Blocks {
    fn of(kind: &CollectiveKind, me: usize, n: usize) -> Self {
        let at_root = |root: usize, blocks| (me == root).then_some(blocks);
        let (send, recv) = match *kind {
            CollectiveKind::AllReduce(_) => (Some(1), Some(1)),
            CollectiveKind::AllGather => (Some(1), Some(n)),
            CollectiveKind::ReduceScatter(_) => (Some(n), Some(1)),
            CollectiveKind::Broadcast { root } => (at_root(root, 1), Some(1)),
            CollectiveKind::Reduce { root, .. } => (Some(1), at_root(root, 1)),
            CollectiveKind::Gather { root } => (Some(1), at_root(root, n)),
            CollectiveKind::Scatter { root } => (at_root(root, n), Some(1)),
            CollectiveKind::AllToAll => (Some(n), Some(n)),
            CollectiveKind::Send { .. } => (Some(1), None),
            CollectiveKind::Receive { .. } => (None, Some(1)),
            CollectiveKind::Barrier => (None, None),
        };
        Blocks { send, recv }
    }

    /// Elements of a block.
    fn count(&self, send: Option<Place>, recv: Option<Place>, element: usize) -> Result<usize, String> {
        let block = |place: Option<Place>, blocks: Option<usize>| -> Result<Option<usize>, String> {
            let (Some(len), Some(blocks)) = (place.map(Place::len), blocks) else { return Ok(None) };
            let whole = len.is_multiple_of(blocks * element);
            whole
                .then_some(Some(len / blocks))
                .ok_or_else(|| format!("{len} bytes are no {blocks} equal blocks"))
        };
        let (from, to) = (block(send, self.send)?, block(recv, self.recv)?);
        match (from, to) {
            (Some(from), Some(to)) if from != to => {
                Err(format!("blocks of {from} bytes in send do not fit blocks of {to} bytes in recv"))
            }
            _ => Ok(from.or(to).unwrap_or(0) / element),
        }
    }

    /// Buffers may share memory only where the own block of one is the other.
    fn check_overlap(&self, send: Option<Place>, recv: Option<Place>, me: usize) -> Result<(), String> {
        let (Some(from), Some(to), Some(send), Some(recv)) = (self.send, self.recv, send, recv) else {
            return Ok(());
        };
        let own = |place: Place, blocks: usize| match blocks {
            1 => place.address(),
            _ => place.address() + place.len() / blocks * me,
        };
        let apart =
            send.address() + send.len() <= recv.address() || recv.address() + recv.len() <= send.address();
        let in_place = own(send, from) == own(recv, to) && from.min(to) == 1;
        let fits = apart || in_place || send.len() == 0;
        fits.then_some(()).ok_or_else(|| "send and recv overlap".to_owned())
    }
}

/// What a library computes in, where it does not know an element type or a reduction itself, but another one does
/// the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Units {
    pub(crate) dtype: DType,
    /// How many of them make an element.
    pub(crate) per_element: usize,
    pub(crate) reduction: Option<Reduction>,
}

impl Units {
    /// Bytes where data only move; flags 0 and 1 as numbers; parts of complex numbers where these do not mix.
    pub(crate) fn of(kind: &CollectiveKind, dtype: DType) -> Option<Units> {
        let units = |dtype, per_element, reduction| Some(Units { dtype, per_element, reduction });
        let Some(reduction) = kind.reduction() else {
            return units(DType::I8, dtype.size(), None);
        };
        match (dtype, reduction) {
            (DType::Bool, Reduction::Sum | Reduction::Max) => units(DType::I8, 1, Some(Reduction::Max)),
            (DType::Bool, Reduction::Prod | Reduction::Min) => units(DType::I8, 1, Some(Reduction::Min)),
            (DType::C64, Reduction::Sum | Reduction::Mean) => units(DType::F32, 2, Some(reduction)),
            (DType::C128, Reduction::Sum | Reduction::Mean) => units(DType::F64, 2, Some(reduction)),
            (DType::Bool | DType::C64 | DType::C128, _) => None,
            // Means of integers are truncated towards 0, which libraries do not promise.
            (_, Reduction::Mean) if !dtype.is_float() => None,
            _ => units(dtype, 1, Some(reduction)),
        }
    }
}

#[cfg(test)]
mod tests {
    use mslite_tensor::HostBuffer;

    use super::*;

    fn check(kind: &str, rank: usize, send: usize, recv: usize) -> Result<usize> {
        let group = Group { name: "g".into(), ranks: vec![0, 1, 2], rank };
        let buffer = |count| HostBuffer::zeroed(DType::F32, &[count]).unwrap();
        let op = CollectiveOp::new(kind.parse().unwrap(), "g");
        let call = Call::check(&op, &group, &buffer(send), &buffer(recv), DeviceApi::Cuda)?;
        Ok(call.count)
    }

    #[test]
    fn blocks_have_one_size() {
        for (kind, send, recv) in [
            ("all_reduce(sum)", 4, 4),
            ("all_gather", 4, 12),
            ("reduce_scatter(max)", 12, 4),
            ("gather(root=1)", 4, 12),
            ("scatter(root=1)", 12, 4),
            ("all_to_all", 12, 12),
            ("broadcast(root=1)", 4, 4),
            ("send(dest=0, tag=0)", 4, 999),
            ("receive(src=0, tag=0)", 999, 4),
        ] {
            assert_eq!(check(kind, 1, send, recv), Ok(4), "{kind}");
            let refused = check(kind, 1, send + 1, recv + 1);
            let alone = kind.starts_with("send") || kind.starts_with("receive");
            let uniform = kind.starts_with("all_reduce") || kind.starts_with("broadcast");
            assert_eq!(refused.is_ok(), alone || uniform, "{kind}");
        }
        assert_eq!(check("gather(root=1)", 0, 4, 7), Ok(4));
        assert!(matches!(check("broadcast(root=3)", 0, 4, 4), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn units_compute_the_same() {
        let of = |kind: &str, dtype| {
            Units::of(&kind.parse().unwrap(), dtype).map(|u| (u.dtype, u.per_element, u.reduction))
        };
        assert_eq!(of("all_gather", DType::C128), Some((DType::I8, 16, None)));
        assert_eq!(of("all_reduce(sum)", DType::Bool), Some((DType::I8, 1, Some(Reduction::Max))));
        assert_eq!(of("all_reduce(prod)", DType::Bool), Some((DType::I8, 1, Some(Reduction::Min))));
        assert_eq!(of("reduce_scatter(sum)", DType::C64), Some((DType::F32, 2, Some(Reduction::Sum))));
        assert_eq!(of("all_reduce(prod)", DType::C64), None);
        assert_eq!(of("all_reduce(mean)", DType::I32), None);
        assert_eq!(of("all_reduce(mean)", DType::BF16), Some((DType::BF16, 1, Some(Reduction::Mean))));
    }
}
