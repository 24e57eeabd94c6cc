//! Where things are on this node: group actors by conversation, connections by user.

mod groups;
mod sessions;

pub use crate::group::GroupState;
pub use groups::{Directory, DirectoryState};
pub use sessions::Sessions;
pub(crate) use sessions::{Arrival, Slot, UserSlot};
