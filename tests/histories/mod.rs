//! Histories that go back, of the store and of lock services: a writer from before is never admitted afterwards, the
//! legitimate one gets through after at most a rebase, and the message says what happened and what to do.

mod postgres;
mod services;

use std::time::Duration;

use fencegate::{
    Grant, GrantError, Locks, Options, StoreError, Token,
    store::{Change, Condition, Rebase, Value, Write, Written},
};

use crate::{support::eventually::PATIENCE, world::name};

/// Grants the fence `f`, waiting for it.
async fn grant(locks: &Locks) -> Result<Grant, GrantError> {
    let options = Options {
        ttl: Duration::from_secs(5),
        wait: PATIENCE,
        ..Options::default()
    };
    locks.grant(&name("f"), options).await
}

fn write(token: &Token, condition: Condition) -> Write {
    Write {
        fence: name("f"),
        token: token.mark(),
        key: "k".parse().unwrap(),
        change: Change::Put(Value {
            bytes: token.to_string().into(),
            content_type: "text/plain".into(),
        }),
        condition,
    }
}

async fn put(locks: &Locks, token: &Token) -> Result<Written, StoreError> {
    locks.store().write(write(token, Condition::Always)).await
}

async fn rebase(locks: &Locks) {
    let asked = Rebase {
        reason: "a test".into(),
        who: "a tester".into(),
        expected: None,
    };
    let done = locks.store().rebase(&asked).await.unwrap();
    assert!(done.to > done.from, "{done:?}");
    let log = locks.store().audit(1).await.unwrap();
    assert_eq!(
        (&*log[0].action, &*log[0].reason, &*log[0].who),
        ("rebase", "a test", "a tester")
    );
    assert_eq!(
        (log[0].from_epoch, log[0].to_epoch),
        (done.from.get(), done.to.get())
    );
}

/// Those from before are stale, and the next holder gets through.
async fn goes_on(locks: &Locks, before: &[&Token]) {
    for token in before {
        let refused = put(locks, token).await.unwrap_err();
        assert!(refused.is_stale(), "{refused}");
    }
    let granted = grant(locks).await.unwrap();
    put(locks, &granted.token).await.unwrap();
    for token in before {
        assert!(put(locks, token).await.unwrap_err().is_stale());
    }
    locks.release(&granted.name, &granted.token).await.unwrap();
}
