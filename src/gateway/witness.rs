//! What happens in this gateway, told once to all who are told: rejections, events, metrics.
//!
//! Tokens are told as epoch-sequence; a holder never gets here.

use std::{sync::Arc, time::Duration};

use super::{
    auth::Client,
    events::{Events, Said, What},
    metrics::{self, Metrics},
};
use crate::{
    grant::{Grant, GrantError},
    guard::Refusal,
    lock::{LockError, Term},
    name::{FenceName, RecordKey},
    rejections::{Rejections, Source},
    store::{BatchWatch, Change, Done, Store, StoreError, Transaction, Write, Written},
    token::{Mark, Token},
};

/// Sees what handlers do.
pub(super) struct Witness {
    rejections: Rejections,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
}

impl Witness {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let batches = metrics.clone();
        store.watch_batches(BatchWatch::new(move |batch| batches.batch(batch)));
        Self {
            rejections: Rejections::new(store.clone(), Source::Gateway),
            events: Arc::default(),
            metrics,
        }
    }

    pub(super) fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    pub(super) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A lease was granted, after a wait of `waited`.
    pub(super) fn granted(&self, client: &Client, grant: &Grant, label: String, waited: Duration) {
        self.metrics.granted.increment(1);
        self.metrics.wait_seconds.record(waited);
        let number = grant.token.mark().number();
        self.metrics
            .holds
            .granted(&grant.name, number, grant.term.deadline);
        let said = Said {
            label: Some(label).filter(|label| !label.is_empty()),
            ttl_ms: Some(milliseconds(grant.term.ttl)),
            waited_ms: Some(milliseconds(waited)),
            ..said(client, &grant.token)
        };
        self.events.tell(What::Granted, &grant.name, &said);
    }

    pub(super) fn not_granted(&self, error: Option<&GrantError>) {
        match error {
            Some(GrantError::Lock(LockError::Busy { .. })) => self.metrics.held.increment(1),
            _ => self.metrics.not_granted.increment(1),
        }
    }

    /// A lease was to be renewed.
    pub(super) fn renewed(
        &self,
        client: &Client,
        fence: &FenceName,
        token: &Token,
        renewed: &Result<Term, GrantError>,
    ) {
        let number = token.mark().number();
        match renewed {
            Ok(term) => {
                self.metrics.renewals.increment(1);
                self.metrics.holds.renewed(fence, number, term.deadline);
            }
            Err(error) if error.is_lost() => {
                self.metrics.losses.increment(1);
                self.metrics.holds.ended(fence, number, false);
                self.events.tell(What::Lost, fence, &said(client, token));
            }
            Err(_) => {}
        }
    }

    /// A holder gave its lease back, which was `live` until then.
    pub(super) fn released(&self, client: &Client, fence: &FenceName, token: &Token, live: bool) {
        self.metrics.holds.ended(fence, token.mark().number(), live);
        if live {
            self.metrics.released.increment(1);
            self.events.tell(What::Released, fence, &said(client, token));
        }
    }

    /// An operator ended whoever's lease.
    pub(super) fn force_released(&self, client: &Client, fence: &FenceName) {
        self.metrics.forced.increment(1);
        self.metrics.holds.freed(fence);
        let said = Said {
            client: Some(client.name().to_owned()),
            ..Said::default()
        };
        self.events.tell(What::ForceReleased, fence, &said);
    }

    /// The guard refused a token, in whatever request.
    pub(super) fn refused(&self, client: &Client, refusal: &Refusal) {
        self.metrics.refused(refusal.reason);
        self.rejections.note(refusal, client.name());
        if self.events.wants(What::Refused) {
            let said = Said {
                token: Some(refusal.presented.to_string()),
                client: Some(client.name().to_owned()),
                reason: Some(refusal.reason.as_str()),
                mark: refusal.mark.map(|mark| mark.to_string()),
                ..Said::default()
            };
            self.events.tell(What::Refused, &refusal.fence, &said);
        }
    }

    /// What will be told of a write that is about to be given to the store.
    pub(super) fn about(&self, write: &Write) -> About {
        let wanted = self.events.wants(What::Written);
        About {
            kind: match write.change {
                Change::Put(_) => metrics::Written::Put,
                Change::Merge(_) => metrics::Written::Patch,
                Change::Delete => metrics::Written::Delete,
            },
            change: name_of(&write.change),
            record: wanted.then(|| (write.fence.clone(), write.key.clone(), write.token)),
        }
    }

    /// A write ended: with what is written, and whether that had been before, or not.
    pub(super) fn wrote(&self, client: &Client, about: About, ended: &Result<(Written, bool), StoreError>) {
        self.metrics
            .wrote(about.kind, ended.as_ref().map(|(_, replayed)| *replayed));
        match ended {
            Ok((written, false)) => {
                if let Some((fence, key, token)) = &about.record {
                    self.written(client, fence, key, about.change, token.to_string(), *written);
                }
            }
            Ok(_) => {}
            Err(error) => self.failed(client, error),
        }
    }

    /// A transaction ended.
    pub(super) fn transacted(
        &self,
        client: &Client,
        transaction: &Transaction,
        ended: &Result<Done, StoreError>,
    ) {
        let replayed = ended.as_ref().map(|done| done.replayed);
        self.metrics.wrote(metrics::Written::Transaction, replayed);
        match ended {
            Ok(done) if !done.replayed && self.events.wants(What::Written) => {
                for (operation, written) in transaction.operations.iter().zip(&done.written) {
                    let token = transaction.tokens.get(&operation.fence);
                    let token = token.map(ToString::to_string).unwrap_or_default();
                    let (fence, key) = (&operation.fence, &operation.key);
                    let change = name_of(&operation.change);
                    self.written(client, fence, key, change, token, *written);
                }
            }
            Ok(_) => {}
            Err(error) => self.failed(client, error),
        }
    }

    fn written(
        &self,
        client: &Client,
        fence: &FenceName,
        key: &RecordKey,
        change: &'static str,
        token: String,
        written: Written,
    ) {
        let said = Said {
            token: Some(token),
            client: Some(client.name().to_owned()),
            key: Some(key.to_string()),
            change: Some(change),
            version: written.version.map(|version| version.to_string()),
            ..Said::default()
        };
        self.events.tell(What::Written, fence, &said);
    }

    fn failed(&self, client: &Client, error: &StoreError) {
        match error {
            StoreError::Refused(refusal) => self.refused(client, refusal),
            StoreError::Operation { error, .. } => self.failed(client, error),
            _ => {}
        }
    }
}

/// A write without its value, which the store takes.
pub(super) struct About {
    kind: metrics::Written,
    change: &'static str,
    /// Only where somebody listens.
    record: Option<(FenceName, RecordKey, Mark)>,
}

fn name_of(change: &Change) -> &'static str {
    match change {
        Change::Put(_) => "put",
        Change::Merge(_) => "patch",
        Change::Delete => "delete",
    }
}

fn said(client: &Client, token: &Token) -> Said {
    Said {
        token: Some(token.to_string()),
        client: Some(client.name().to_owned()),
        ..Said::default()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
