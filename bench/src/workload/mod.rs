//! Who talks to whom.

pub mod shape;

pub use shape::{GroupShape, Shape};
