//! A fence that is held, directly or through a gateway.

use anyhow::Context;
use fencegate::{FenceName, GrantError, Lease, LockError, Locks, Options, Token, client};

use super::servers;

/// Where a fence is held.
pub(super) enum Place {
    Direct(Locks),
    Gateway(client::Client),
}

/// A lease that renews itself.
pub(super) enum Held {
    Direct(Lease),
    Gateway(client::Lease),
}

impl Place {
    /// Acquires the fence; `None` if others held it for all of the wait.
    pub(super) async fn acquire(&self, fence: &FenceName, options: Options) -> anyhow::Result<Option<Held>> {
        match self {
            Self::Direct(locks) => match locks.acquire_with(fence, options).await {
                Ok(lease) => Ok(Some(Held::Direct(lease))),
                Err(GrantError::Lock(LockError::Busy { .. })) => Ok(None),
                Err(error) => Err(servers::at_store(locks, error)),
            },
            Self::Gateway(client) => {
                let options = client::AcquireOptions {
                    ttl: Some(options.ttl),
                    wait: Some(options.wait),
                    label: Some(options.label),
                    holder: options.holder,
                };
                match client.acquire(fence, options).await {
                    Ok(lease) => Ok(Some(Held::Gateway(lease))),
                    Err(error) if error.is_busy() => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Who holds the fence just now, in the holder's own words; `None` if nobody does.
    pub(super) async fn holder(&self, fence: &FenceName) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Direct(locks) => {
                let holder = locks.service().inspect(fence).await?.holder;
                holder.map(|holder| holder.label)
            }
            Self::Gateway(client) => {
                let holder = client.fence(fence).await?.and_then(|fence| fence.holder);
                holder.map(|holder| holder.label)
            }
        })
    }

    /// Whether a token is the newest of the fence, here.
    pub(super) async fn knows(&self, fence: &FenceName, token: &Token) -> anyhow::Result<bool> {
        match self {
            Self::Direct(locks) => {
                let state = locks.store().fence(fence).await;
                let state = state.map_err(|error| servers::at_store(locks, error))?;
                Ok(state.is_some_and(|state| state.mark == token.mark()))
            }
            Self::Gateway(client) => match client.check(fence, token).await {
                Ok(()) => Ok(true),
                Err(error) if error.is_fenced() => Ok(false),
                Err(error) => Err(error).context("asking whether the fence is held already"),
            },
        }
    }
}

impl Held {
    pub(super) fn token(&self) -> &Token {
        match self {
            Self::Direct(lease) => lease.token(),
            Self::Gateway(lease) => lease.token(),
        }
    }

    pub(super) async fn lost(&self) {
        match self {
            Self::Direct(lease) => lease.lost().await,
            Self::Gateway(lease) => lease.lost().await,
        }
    }

    pub(super) async fn release(self) -> anyhow::Result<()> {
        match self {
            Self::Direct(lease) => lease.release().await?,
            Self::Gateway(lease) => lease.release().await?,
        }
        Ok(())
    }
}
