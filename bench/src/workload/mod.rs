//! Who talks to whom.

pub mod scenario;
pub mod shape;

pub use shape::{GroupShape, Shape, shares};
