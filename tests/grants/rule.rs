//! The rule in SQL is the rule in Rust: every case of a small domain, by the function alone and through real seals
//! and entries.

use fencegate::{
    Epoch, Mark, Sequence,
    guard::{self, GuardError},
    rule::{Reason, Verdict, admit},
    store::SealOutcome,
};
use sqlx::Row;

use crate::world::{World, name};

fn mark(epoch: i64, sequence: i64, holder: u8) -> Mark {
    Mark {
        epoch: Epoch::new(epoch).unwrap(),
        sequence: Sequence::new(sequence).unwrap(),
        holder: [holder; 32].into(),
    }
}

fn all_marks() -> impl Iterator<Item = Mark> {
    (1..=3).flat_map(|e| (1..=3).flat_map(move |s| (1..=2).map(move |h| mark(e, s, h))))
}

#[tokio::test]
async fn the_function_says_the_same() {
    let world = World::postgres().await;
    let pool = world.pool();
    let marks: Vec<_> = std::iter::once(None).chain(all_marks().map(Some)).collect();
    let mut cases = 0;
    for at in &marks {
        for token in all_marks() {
            for confirmed in [false, true] {
                let said: String = sqlx::query("select fencegate.verdict($1, $2, $3, $4, $5, $6, $7)")
                    .bind(at.map(|at| at.epoch.get()))
                    .bind(at.map(|at| at.sequence.get()))
                    .bind(at.map(|at| at.holder.as_bytes().to_vec()))
                    .bind(token.epoch.get())
                    .bind(token.sequence.get())
                    .bind(token.holder.as_bytes().to_vec())
                    .bind(confirmed)
                    .fetch_one(&pool)
                    .await
                    .unwrap()
                    .get(0);
                let rule = match admit(at.as_ref(), &token, confirmed) {
                    Verdict::Admit => "admit",
                    Verdict::Seal => "seal",
                    Verdict::Refuse(reason) => reason.as_str(),
                };
                assert_eq!(said, rule, "{at:?} {token} {confirmed}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 19 * 18 * 2);
}

/// Seals in epoch 2, so that epochs below, at and above the store's are among the cases.
#[tokio::test]
async fn seals_and_entries_do_the_same() {
    let world = World::postgres().await;
    let (pool, store) = (world.pool(), world.locks.store());
    sqlx::query("update fencegate.epoch set number = 2")
        .execute(&pool)
        .await
        .unwrap();
    let fence = name("f");
    let marks: Vec<_> = std::iter::once(None).chain(all_marks().map(Some)).collect();
    for at in &marks {
        for token in all_marks() {
            sqlx::query("delete from fencegate.fence")
                .execute(&pool)
                .await
                .unwrap();
            if let Some(at) = at {
                sqlx::query(
                    "insert into fencegate.fence (name, epoch, sequence, holder) values ('f', $1, $2, $3)",
                )
                .bind(at.epoch.get())
                .bind(at.sequence.get())
                .bind(at.holder.as_bytes().to_vec())
                .execute(&pool)
                .await
                .unwrap();
            }
            for isolation in ["read committed", "repeatable read", "serializable"] {
                let begin = sqlx::AssertSqlSafe(format!("begin isolation level {isolation}"));
                let mut transaction = pool.begin_with(begin).await.unwrap();
                let entered = match guard::postgres::enter(&mut transaction, &fence, &token).await {
                    Ok(()) => Verdict::Admit,
                    Err(GuardError::Refused(refusal)) => Verdict::Refuse(refusal.reason),
                    Err(error) => panic!("{error}"),
                };
                transaction.rollback().await.unwrap();
                assert_eq!(entered, admit(at.as_ref(), &token, false), "{at:?} {token}");
            }
            let sealed = store.seal(&fence, &token).await.unwrap();
            let expected = match admit(at.as_ref(), &token, true) {
                Verdict::Admit => SealOutcome::Sealed,
                _ if token.epoch.get() != 2 => SealOutcome::EpochChanged(Epoch::new(2).unwrap()),
                Verdict::Seal => SealOutcome::Sealed,
                Verdict::Refuse(Reason::Stale | Reason::HolderMismatch) => {
                    SealOutcome::NotHigher(at.unwrap())
                }
                Verdict::Refuse(reason) => panic!("{reason:?}"),
            };
            assert_eq!(sealed, expected, "{at:?} {token}");
            let now = store.fence(&fence).await.unwrap().map(|fence| fence.mark);
            let moved = expected == SealOutcome::Sealed;
            assert_eq!(now, if moved { Some(token) } else { *at }, "{at:?} {token}");
        }
    }
}
