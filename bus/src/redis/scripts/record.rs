//! Changing records.

use redis::{Cmd, Script};

use super::{Call, description::DescriptionWriter};
use crate::Fact;

/// Makes changes of records if the first one, a [`crate::CompareAndSet`], finds what it expects. Returns whether it does.
pub(in crate::redis) struct CompareFirst<'a> {
    pub(in crate::redis) facts: &'a [Fact],
}

impl Call for CompareFirst<'_> {
    type Answer = bool;

    fn script(&self) -> &'static Script {
        script!("common", "facts", "compare_and_set")
    }

    fn arguments(&self, call: &mut Cmd) {
        DescriptionWriter::whole(call).facts(self.facts);
    }
}
