//! Writers of primitives, by kind.

pub(super) mod attention;
pub(super) mod collective;
pub(super) mod elementwise;
pub(super) mod index;
pub(super) mod layout;
pub(super) mod linear;
pub(super) mod norm;
pub(super) mod opaque;
pub(super) mod reduce;
pub(super) mod window;
