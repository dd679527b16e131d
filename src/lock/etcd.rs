//! Locks in etcd.

use super::*;

/// Being written.
#[derive(Debug)]
pub struct EtcdLocks;

impl EtcdLocks {
    /// Being written.
    pub async fn connect(_url: &str) -> Result<Self, LockError> {
        todo!()
    }
}

#[async_trait]
impl LockService for EtcdLocks {
    fn kind(&self) -> Kind {
        Kind::Etcd
    }
    async fn identity(&self) -> Result<Identity, LockError> {
        todo!()
    }
    async fn acquire(&self, _: &Request) -> Result<Held, LockError> {
        todo!()
    }
    async fn renew(&self, _: &Claim) -> Result<Term, LockError> {
        todo!()
    }
    async fn release(&self, _: &Claim) -> Result<(), LockError> {
        todo!()
    }
    async fn inspect(&self, _: &FenceName) -> Result<LockState, LockError> {
        todo!()
    }
}
