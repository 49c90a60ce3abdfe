//! What may be read of the machine from outside, by tests and simulators: nothing here changes anything.

use crate::sentinel::ids::{ElectionEpoch, GroupName};
use crate::sentinel::machine::Sentinel;
use crate::sentinel::model::Group;

impl Sentinel {
    /// The newest election known.
    #[must_use]
    pub fn epoch(&self) -> ElectionEpoch {
        self.current_epoch
    }

    /// Everything known of the group of this name.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(self.names.get(name)?)
    }
}
