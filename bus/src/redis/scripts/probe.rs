//! The call that checks whether messages can be stored.

use redis::{Cmd, Script};

use super::Call;

/// Stores a value and removes it again.
pub(in crate::redis) struct ProbeWrite<'a> {
    pub(in crate::redis) consumer: &'a str,
}

impl Call for ProbeWrite<'_> {
    type Answer = ();

    fn script(&self) -> &'static Script {
        script!("common", "probe")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.consumer);
    }
}
