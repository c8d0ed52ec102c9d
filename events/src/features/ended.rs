//! Messages of builds that have ended: handling them does nothing.

use std::sync::Arc;

use async_trait::async_trait;
use build::{BuildLog, BuildRecord, BuildRequest, BuildUpdate, FinalOutcome, Phid};
use bus::{Admin, Bus, BusError, Envelope, Message, Queue, QueueSpec, Usefulness};

use super::{
    builds::{BUILD_LOAD, BUILD_PUBLISH, BUILD_PUSH},
    test_selection::BUILD_PUBLISH_TESTS,
};

/// The administration of all queues, which requeues no message of a build that has ended.
pub(crate) fn admin(bus: Arc<dyn Bus>, log: BuildLog) -> Admin {
    let ended = EndedBuilds {
        bus: Arc::clone(&bus),
        log,
    };
    Admin::new(bus, &super::all()).with_usefulness(Arc::new(ended))
}

struct EndedBuilds {
    bus: Arc<dyn Bus>,
    log: BuildLog,
}

/// The build of a message, and what the message would publish.
enum About {
    /// The build goes on, if it has no end.
    Build(BuildRequest),
    /// The update is published, if it is the build's end.
    Update(BuildRequest, BuildUpdate),
    /// The result of a test is published, if the build was pushed.
    Test(Phid),
}

impl About {
    /// `None` for a message of another kind, and for one that cannot be read.
    fn read(queue: &QueueSpec, message: &Envelope) -> Option<Self> {
        fn decode<M: Message>(
            wanted: &Queue<M>,
            queue: &QueueSpec,
            message: &Envelope,
        ) -> Option<M> {
            let ours = wanted.spec().name == queue.name;
            ours.then(|| M::decode(message.version, &message.body).ok())
                .flatten()
        }
        decode(&BUILD_LOAD, queue, message)
            .map(Self::Build)
            .or_else(|| decode(&BUILD_PUSH, queue, message).map(|build| Self::Build(build.request)))
            .or_else(|| {
                decode(&BUILD_PUBLISH, queue, message)
                    .map(|message| Self::Update(message.request, message.update))
            })
            .or_else(|| {
                decode(&BUILD_PUBLISH_TESTS, queue, message).map(|result| Self::Test(result.target))
            })
    }

    fn target(&self) -> &Phid {
        match self {
            Self::Build(request) | Self::Update(request, _) => &request.target,
            Self::Test(target) => target,
        }
    }

    /// Whether handling the message would do nothing.
    fn is_useless(&self, record: &BuildRecord) -> bool {
        match self {
            Self::Build(_) => record.end.is_some(),
            Self::Update(_, update) => record.overrules(update),
            Self::Test(_) => record.end.as_ref().is_some_and(|end| {
                !matches!(end.outcome, FinalOutcome::Answered(BuildUpdate::Pushed(_)))
            }),
        }
    }
}

#[async_trait]
impl Usefulness for EndedBuilds {
    async fn useless(
        &self,
        queue: &QueueSpec,
        message: &Envelope,
    ) -> Result<Option<String>, BusError> {
        let Some(about) = About::read(queue, message) else {
            return Ok(None);
        };
        let target = about.target();
        let found = self
            .log
            .find(self.bus.as_ref(), std::slice::from_ref(target))
            .await?;
        let Some(record) = found
            .into_iter()
            .next()
            .filter(|record| about.is_useless(record))
        else {
            return Ok(None);
        };
        let outcome = match record.outcome() {
            Some(outcome) => format!("outcome {outcome}"),
            None => record.state().to_string(),
        };
        Ok(Some(format!(
            "build {target} has ended ({outcome}); requeueing does nothing; \
             restart it with `events builds restart {target}`"
        )))
    }
}
