//! One thing for each party.

use crate::protocol::Role;

/// One thing for each party.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct PerRole<T> {
    pub(super) old: T,
    pub(super) new: T,
}

impl<T> PerRole<T> {
    pub(super) fn of(&self, role: Role) -> &T {
        match role {
            Role::Old => &self.old,
            Role::New => &self.new,
        }
    }

    pub(super) fn of_mut(&mut self, role: Role) -> &mut T {
        match role {
            Role::Old => &mut self.old,
            Role::New => &mut self.new,
        }
    }
}
