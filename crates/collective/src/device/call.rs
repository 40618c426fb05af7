//! The arguments of an operation: checked, and in terms of what libraries know.

use mslite_tensor::{Buffer, DType, DeviceApi, HostSpan};

use crate::call;
use crate::{CollectiveKind, CollectiveOp, Error, Group, Reduction, Result};

/// The checked arguments of an operation.
pub(crate) type Call = call::Call<Place>;

/// Where a buffer is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Address and number of bytes on the device of the group.
    Device(usize, usize),
    Host(HostSpan),
}

impl Call {
    /// # Errors
    /// As [`call::Call::new`].
    pub(crate) fn check(
        op: &CollectiveOp,
        group: &Group,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        api: DeviceApi,
    ) -> Result<Call> {
        Call::new(op, group, send, Some(recv), |buffer| {
            Place::of(buffer, api).ok_or_else(|| {
                Error::Unsupported(format!("{op} on a buffer in the memory of neither {api} nor the host"))
            })
        })
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
}

impl call::Place for Place {
    fn address(self) -> usize {
        match self {
            Place::Device(address, _) => address,
            Place::Host(span) => span.ptr.as_ptr() as usize,
        }
    }

    fn len(self) -> usize {
        Place::len(self)
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
