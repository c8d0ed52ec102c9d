use bus::Policy;

// From the crate that has them.
use super::{Remind, Reminder};
use crate::app::{App, queues};

queues! {
    "reminders" in [Worker, All];

    /// Reminders, until they are due.
    REMINDERS: Reminder = "reminders", Policy::DEFAULT;
}

pub(super) fn install(app: &mut App) {
    app.consumer(REMINDERS, Remind);
}
