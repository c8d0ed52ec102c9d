//! Mails a report at regular intervals, from one process of all.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{BusError, Field, LeaderLease, Outgoing, Producer, Queue, RecordStore};
use jiff::Timestamp;
use runtime::{Service, ServiceError, Shutdown, error_chain};
use taskcluster::{Email, EmailTemplate};
use tracing::{info, warn};

use super::{Report, ReportScope, results};

const LAST: Field<Timestamp> = Field::new("reported");
/// The id of the record that holds the time of the last report. No task has such an id.
const SCHEDULE: &str = "-reports-";

/// Reports on the tasks of one deployment.
#[derive(Clone)]
pub struct Reporter {
    scope: ReportScope,
    store: RecordStore,
    mails: Queue<Email>,
    addresses: Vec<String>,
    producer: Producer,
    period: Duration,
}

impl Reporter {
    /// Reports on the results in `store` every `period`. The mails to `addresses` go through the queue `mails`.
    pub fn new(
        scope: ReportScope,
        store: RecordStore,
        mails: Queue<Email>,
        addresses: Vec<String>,
        producer: Producer,
        period: Duration,
    ) -> Self {
        Self {
            scope,
            store,
            mails,
            addresses,
            producer,
            period,
        }
    }

    /// The report that [`Reporter::send`] would make now.
    pub async fn preview(&self) -> Result<Report, BusError> {
        let tasks = results::unreported(self.producer.bus().as_ref(), &self.store).await?;
        Ok(Report::new(&self.scope, tasks))
    }

    /// Makes the report now, sends its mails, and marks its results as reported. An empty report is not mailed.
    pub async fn send(&self) -> Result<Report, BusError> {
        let last = self.last().await?;
        let report = self.preview().await?;
        let now = self.producer.clock().now();
        let mut updates = vec![self.store.set(SCHEDULE, LAST, &now)?];
        updates.extend(
            report
                .clone()
                .into_tasks()
                .map(|task| results::reported(&self.store, &task)),
        );
        let mails = if report.text.is_empty() {
            Vec::new()
        } else {
            self.mails(&report, last)?
        };
        self.producer.bus().push_with(mails, updates).await?;
        Ok(report)
    }

    /// The key of a mail names the last report before it. Two processes that report at the same time, such as one that was
    /// frozen and still believes that it has the lease, do so after the same last report. The bus then stores neither the
    /// mails nor the updates of the second one.
    fn mails(&self, report: &Report, last: Option<Timestamp>) -> Result<Vec<Outgoing>, BusError> {
        let subject = format!(
            "Taskcluster hooks of {}: {} tasks",
            self.scope.name,
            report.tasks()
        );
        self.addresses
            .iter()
            .map(|address| {
                let mail = Email {
                    address: address.clone(),
                    subject: subject.clone(),
                    content: report.text.clone(),
                    template: EmailTemplate::Fullscreen,
                };
                let key = Some(format!(
                    "report on {} after {last:?} to {address}",
                    self.scope.name
                ));
                Ok(Outgoing {
                    key,
                    ..self.mails.pack(&mail, self.producer.clock().as_ref())?
                })
            })
            .collect()
    }

    async fn last(&self) -> Result<Option<Timestamp>, BusError> {
        let record = self
            .producer
            .bus()
            .records(&self.store, &[SCHEDULE.to_owned()])
            .await?
            .pop()
            .unwrap_or_default();
        record.field(LAST).map_err(|source| BusError::Record {
            record: SCHEDULE.to_owned(),
            source,
        })
    }

    /// Reports if the period since the last report is over. The first call begins the first period.
    async fn report_if_due(&self) -> Result<(), BusError> {
        let now = self.producer.clock().now();
        match self.last().await? {
            None => {
                let update = self.store.set_once(SCHEDULE, LAST, &now)?;
                self.producer
                    .bus()
                    .push_with(Vec::new(), vec![update])
                    .await
                    .map(|_| ())
            }
            Some(last) if now.duration_since(last).unsigned_abs() >= self.period => {
                let report = self.send().await?;
                info!(
                    deployment = self.scope.name,
                    tasks = report.tasks(),
                    addresses = self.addresses.len(),
                    "stored the mails of the report on tasks"
                );
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Service for Reporter {
    fn name(&self) -> &str {
        "reporter"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let clock = Arc::clone(self.producer.clock());
        let name = format!("reporter {}", self.scope.name);
        let mut lease = LeaderLease::new(Arc::clone(self.producer.bus()), Arc::clone(&clock), name);
        let mut failed = false;
        loop {
            let done = async {
                if lease.try_acquire().await? {
                    self.report_if_due().await
                } else {
                    Ok(())
                }
            };
            // A report is one step on the bus, so a failure leaves nothing half done.
            match done.await {
                Err(error) if !failed => {
                    failed = true;
                    warn!(
                        error = error_chain(&error),
                        "cannot report on tasks; retrying"
                    );
                }
                Err(_) => {}
                Ok(()) => failed = false,
            }
            tokio::select! {
                () = clock.sleep(LeaderLease::RENEW_INTERVAL) => {}
                () = shutdown.stopping() => break,
            }
        }
        // If this fails, the next process waits until the lease expires.
        let _: Result<(), BusError> = lease.release().await;
        Ok(())
    }
}
