//! The notifier, as it is configured.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bus::{Bus, Consumer, Handler, Message, Producer, Queue};
use notify::{
    CHANNELS, Channels, Dispatcher, Flux, FluxSettings, Identities, Parts, Sender, Templates,
};
use pulse::{Listener, PulseSettings, Route, Topic};
use runtime::{Clock, Service};
use taskcluster::Taskcluster;
use tracing::info;

use super::{REQUEST, services};
use crate::{
    config::{NotifierConfig, Variables},
    queues::{NOTIFY, NOTIFY_DIGESTS, PULSE_NOTIFY},
};

/// Everything that the notifier is made of. None of it has touched a network yet.
pub(crate) struct Notifier {
    config: NotifierConfig,
    /// Our user on Pulse, if there is one.
    pub(crate) pulse: Option<PulseSettings>,
    /// The deployment whose tasks are spoken of.
    pub(crate) taskcluster: Taskcluster,
    public: Taskcluster,
    /// The open channels.
    pub(crate) channels: Arc<Channels>,
    templates: Arc<Templates>,
    identities: Identities,
    flux: Option<FluxSettings>,
}

impl Notifier {
    /// What the configuration and the environment say together; `None` when no channel is enabled.
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
        let pulse = config.pulse.as_ref().map(services::pulse).transpose()?;
        let (taskcluster, public) = services::firefox_to_read(config.taskcluster.as_ref(), clock)?;
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
        let flux = FluxSettings::open(&notify.influxdb, environment)?;
        Ok(Some(Self {
            pulse,
            taskcluster,
            public,
            channels,
            templates,
            identities,
            flux,
            config,
        }))
    }

    /// That no channel is enabled.
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

    /// Makes notifications of messages.
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
        let route = |status: &notify::Status| Route {
            exchange: status.exchange(),
            topics: topics.clone(),
            queue: PULSE_NOTIFY,
        };
        Ok(self.config.notify.statuses.iter().map(route).collect())
    }

    /// Everything that runs: it listens, dispatches and sends.
    pub(crate) fn services(
        self,
        bus: &Arc<dyn Bus>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Vec<Box<dyn Service>>> {
        let pulse = self.pulse.clone().context(
            "the notifier listens to Pulse: set pulse_user and pulse_password, or PULSE_LOGIN and PULSE_PASSWORD",
        )?;
        let names: Vec<_> = self.channels.iter().map(notify::Channel::name).collect();
        info!(
            "notify: as {} on {}, over {}",
            pulse.user,
            pulse.address,
            names.join(", ")
        );
        let listener = Listener::new(
            pulse.clone(),
            &self.queue(&pulse.user)?,
            self.routes()?,
            Producer::new(Arc::clone(bus), Arc::clone(clock)),
        )?;
        let (channels, templates) = (Arc::clone(&self.channels), Arc::clone(&self.templates));
        let mut sender = Sender::new(
            channels,
            templates,
            NOTIFY,
            NOTIFY_DIGESTS,
            self.config.notify.storm_limit,
        );
        let mut services: Vec<Box<dyn Service>> = vec![Box::new(listener)];
        if let Some(settings) = &self.flux {
            info!("notify: {settings:?} gets the duration of each sending");
            let http = http_client::client(REQUEST)?;
            let (flux, writer) = Flux::new(settings.clone(), http, Arc::clone(clock));
            sender = sender.timed_by(flux);
            services.push(Box::new(writer));
        }
        services.extend([
            consumer(bus, clock, PULSE_NOTIFY, self.dispatcher()),
            consumer(bus, clock, NOTIFY_DIGESTS, sender.clone()),
            consumer(bus, clock, NOTIFY, sender),
        ]);
        Ok(services)
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

fn consumer<M: Message, H: Handler<M>>(
    bus: &Arc<dyn Bus>,
    clock: &Arc<dyn Clock>,
    queue: Queue<M>,
    handler: H,
) -> Box<dyn Service> {
    Box::new(Consumer::new(
        Arc::clone(bus),
        Arc::clone(clock),
        queue,
        handler,
    ))
}
