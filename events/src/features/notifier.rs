//! The notifier, as it is configured.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bus::{Backoff, Policy};
use notify::{
    CHANNELS, Channels, Digest, Dispatcher, Identities, InfluxRecorder, InfluxSettings,
    Notification, Parts, Sender, Templates,
};
use pulse::{PulseMessage, PulseSettings, Route, Topic};
use runtime::Clock;
use taskcluster::Taskcluster;
use tracing::info;

use super::policies::FROM_PULSE;
use crate::{
    app::{App, queues, route},
    clients::{self, REQUEST},
    config::{NotifierConfig, Variables},
};

queues! {
    "notifier" in [Worker, All, Notify];

    /// Ends of tasks, for the recipients that their tasks name.
    PULSE_NOTIFY: PulseMessage = "pulse:notify", Policy { concurrency: 32, ..FROM_PULSE };

    /// Notifications, for each channel and identity, then for each recipient. Each channel has partitions of its own: one
    /// that is stuck holds up no other. It has several, so that one task holds up no other either; each channel limits
    /// itself how many it sends at once.
    NOTIFY: Notification = "notify" by (Notification::partition), Policy {
        concurrency: 128,
        partition_concurrency: 1,
        ..NOTIFYING
    };

    /// Notifications beyond the limit of one recipient within a minute.
    NOTIFY_DIGESTS: Digest = "notify:digests", NOTIFYING;
}

/// The waits are 5 s, 30 s, 3 min and 18 min. While a peer is away, that costs no attempt.
const NOTIFYING: Policy = Policy {
    attempts: 5,
    concurrency: 64,
    partition_concurrency: 4,
    backoff: Backoff {
        first: Duration::from_secs(5),
        factor: 6,
        cap: Duration::from_secs(1800),
    },
    ..Policy::DEFAULT
};

/// The parts of the notifier. None has used the network yet.
pub(crate) struct Notifier {
    config: NotifierConfig,
    /// Our user on Pulse, if there is one.
    pub(crate) pulse: Option<PulseSettings>,
    /// The deployment whose tasks the notifier is for.
    pub(crate) taskcluster: Taskcluster,
    public: Taskcluster,
    /// The open channels.
    pub(crate) channels: Arc<Channels>,
    templates: Arc<Templates>,
    identities: Identities,
    influx: Option<InfluxSettings>,
}

impl Notifier {
    /// The notifier of configuration and environment; `None` when no channel is enabled.
    pub(crate) fn open(
        config: NotifierConfig,
        environment: Variables<'_>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Self>> {
        let config = config.with_environment(environment)?;
        let notify = &config.notify;
        if notify.services.is_empty() {
            return Ok(None);
        }
        let pulse = config.pulse.as_ref().map(clients::pulse).transpose()?;
        let (taskcluster, public) = clients::firefox_to_read(config.taskcluster.as_ref(), clock)?;
        let templates = Templates::ours()?;
        let templates = Arc::new(match &notify.templates {
            Some(folder) => templates.replaced_by(folder)?,
            None => templates,
        });
        let parts = Parts {
            templates: &templates,
            taskcluster: &taskcluster,
            pulse: pulse.as_ref(),
            http: &http_client::client(REQUEST)?,
            clock,
        };
        let channels = Arc::new(Channels::open(
            &notify.services,
            &notify.channels,
            environment,
            &parts,
        )?);
        let identities = notify
            .identities
            .as_deref()
            .map_or_else(|| Ok(Identities::default()), Identities::load)?;
        let influx = InfluxSettings::open(&notify.influxdb, environment)?;
        Ok(Some(Self {
            pulse,
            taskcluster,
            public,
            channels,
            templates,
            identities,
            influx,
            config,
        }))
    }

    /// The error when no channel is enabled.
    pub(crate) fn nothing() -> anyhow::Error {
        let known = CHANNELS
            .iter()
            .map(|channel| channel.name)
            .collect::<Vec<_>>()
            .join(", ");
        anyhow::anyhow!(
            "no channel is enabled: set PN_SERVICES, or notify.services; there are {known}"
        )
    }

    /// The handler that makes notifications of messages.
    pub(crate) fn dispatcher(&self) -> Dispatcher {
        Dispatcher::new(
            self.taskcluster.clone(),
            self.public.root().clone(),
            Arc::clone(&self.channels),
            self.identities.clone(),
            Arc::clone(&self.templates),
            NOTIFY,
        )
    }

    /// The routes from Pulse: the exchange of each status, and the topics.
    pub(crate) fn routes(&self) -> anyhow::Result<Vec<Route>> {
        let topics = match self.config.notify.topics.as_slice() {
            [] => vec!["#".parse::<Topic>()?],
            topics => topics.to_vec(),
        };
        let statuses = self.config.notify.statuses.iter();
        let routes = statuses.map(|status| route(&status.exchange(), &topics, PULSE_NOTIFY));
        Ok(routes.collect())
    }

    /// Our user on Pulse, and the name of our queue below `queue/<user>/`. Both are needed to listen, and not for a replay.
    pub(crate) fn subscription(&self) -> anyhow::Result<(&PulseSettings, String)> {
        let pulse = self.pulse.as_ref().context(
            "the notifier needs a user on Pulse: set pulse_user and pulse_password, or PULSE_LOGIN and PULSE_PASSWORD",
        )?;
        Ok((pulse, self.queue(&pulse.user)?))
    }

    /// Installs listener, dispatcher and sender.
    pub(crate) fn install(self, app: &mut App) -> anyhow::Result<()> {
        let (pulse, queue) = self.subscription()?;
        let pulse = pulse.clone();
        let names: Vec<_> = self.channels.iter().map(notify::Channel::name).collect();
        info!("notify: sending over {}", names.join(", "));
        app.listen_to(pulse, &queue, self.routes()?)?;
        let mut sender = Sender::new(
            Arc::clone(&self.channels),
            Arc::clone(&self.templates),
            NOTIFY,
            NOTIFY_DIGESTS,
            self.config.notify.rate_limit_per_minute,
        );
        if let Some(settings) = &self.influx {
            info!(
                host = settings.url.host_str(),
                database = settings.database,
                "notify: writing channel timings to InfluxDB"
            );
            let http = http_client::client(REQUEST)?;
            let (influx, writer) = InfluxRecorder::new(settings.clone(), http, app.clock.clone());
            sender = sender.with_timings(influx);
            app.service(writer);
        }
        app.consumer(PULSE_NOTIFY, self.dispatcher());
        app.consumer(NOTIFY_DIGESTS, sender.clone());
        app.consumer(NOTIFY, sender);
        Ok(())
    }

    /// The name of our queue below `queue/<user>/`. It may be set in full.
    fn queue(&self, user: &str) -> anyhow::Result<String> {
        let Some(name) = &self.config.notify.queue else {
            return Ok(format!("notify-{}", self.config.channel));
        };
        let own = name.strip_prefix(&format!("queue/{user}/"));
        if own.is_none() && name.starts_with("queue/") {
            bail!(
                "notify.queue (or PULSE_QUEUE) is {name}, but queues of {user} begin with queue/{user}/"
            );
        }
        Ok(own.unwrap_or(name).to_owned())
    }
}
