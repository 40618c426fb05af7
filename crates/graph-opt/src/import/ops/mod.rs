//! Lowerings by family.

pub(super) mod attention;
pub(super) mod collective;
pub(super) mod compare;
pub(super) mod conv;
pub(super) mod create;
pub(super) mod diagonal;
pub(super) mod elementwise;
pub(super) mod index;
pub(super) mod linear;
pub(super) mod norm;
pub(super) mod opaque;
pub(super) mod pool;
pub(super) mod reduce;
pub(super) mod resize;
pub(super) mod scalar;
pub(super) mod shape;
pub(super) mod slice;
pub(super) mod state;
