//! Hand-made histories: a good one, and the same with one thing wrong at a time, which the checker must see.

use std::collections::BTreeSet;

use super::{Promise::*, *};
use crate::record::{Answer, Call, Cell, LIST, What};

/// Two holders in turn, each of whom reads, appends, and releases; and the writes of both as logged.
fn good() -> History {
    let mut history = History {
        ended: 1000,
        ..History::default()
    };
    holder(&mut history, "a", (1, 10), 100, None);
    holder(&mut history, "b", (1, 20), 200, Some("a-2"));
    history.marks = vec![mark(1, (1, 10)), mark(2, (1, 20))];
    history
}

fn holder(history: &mut History, client: &str, token: Number, at: i64, was: Option<&str>) {
    let under = vec![("f".to_owned(), token)];
    let op = format!("{client}-2");
    let mut value = was.map_or(Value::default(), |was| history.last[&place()].clone().check(was));
    value.was = was.map(Into::into);
    value.op = op.clone();
    value.list.push(op.clone());
    value.n += 1;
    let cells = vec![Cell {
        place: place(),
        value: value.clone(),
    }];
    let calls = [
        (Call::Grant(vec!["f".into()]), Answer::Granted(under.clone())),
        (Call::Read(place()), Answer::Read(value.was.clone())),
        (
            Call::Write {
                cells,
                under: under.clone(),
            },
            Answer::Done,
        ),
        (Call::Release(under), Answer::Done),
    ];
    for (number, (call, answer)) in (0..).zip(calls) {
        let asked = at + 10 * i64::from(number);
        for (at, what) in [(asked, What::Asked(call)), (asked + 5, What::Answered(answer))] {
            history.events.push(Event {
                at,
                history: 0,
                client: client.into(),
                number,
                what,
            });
        }
    }
    history.rows.push(Row {
        n: at,
        place: place(),
        op,
        was: value.was.clone(),
        under: token,
        transaction: client.into(),
        committed: at + 22,
    });
    history.last.insert(place(), value);
}

impl Value {
    fn check(self, op: &str) -> Self {
        assert_eq!(self.op, op);
        self
    }
}

fn place() -> Place {
    Place {
        fence: "f".into(),
        key: LIST.into(),
    }
}

fn mark(n: i64, number: Number) -> Mark {
    Mark {
        n,
        fence: "f".into(),
        number,
    }
}

impl History {
    fn event(&mut self, client: &str, number: u32, answered: bool) -> &mut Event {
        let found = self.events.iter_mut().find(|event| {
            let is_answer = matches!(event.what, What::Answered(_));
            event.client == client && event.number == number && is_answer == answered
        });
        found.unwrap()
    }

    fn answer(&mut self, client: &str, number: u32, answer: Answer) {
        self.event(client, number, true).what = What::Answered(answer);
    }
}

#[track_caller]
fn finds(promise: Promise, wrong: impl FnOnce(&mut History)) {
    let mut history = good();
    wrong(&mut history);
    let found: BTreeSet<Promise> = violations(&history).iter().map(|found| found.promise).collect();
    assert!(found.contains(&promise), "{promise:?} is not among {found:?}");
}

#[test]
fn the_good_one_is_good() {
    let found = violations(&good());
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((lost_updates(&good()), count(&good().events)), (0, 8));
}

#[test]
fn what_may_have_happened_may() {
    let mut history = good();
    history.answer("b", 2, Answer::Unknown("no answer".into()));
    assert!(violations(&history).is_empty(), "it is there");
    history.rows.pop();
    let was = holder_value("a-2");
    history.last.insert(place(), was);
    assert!(violations(&history).is_empty(), "it is not there");
}

fn holder_value(op: &str) -> Value {
    Value {
        op: op.into(),
        was: None,
        n: 1,
        list: vec![op.into()],
    }
}

#[test]
fn a_stale_write() {
    // a's write lands after b's grant, and after its own release.
    finds(Dead, |history| history.rows[0].committed = 210);
    // And after b's write.
    finds(Monotone, |history| history.rows[0].committed = 300);
    // Also where nobody else came.
    finds(Dead, |history| {
        history.rows[0].committed = 190;
    });
}

#[test]
fn a_lost_update() {
    // b computed from nothing, and wrote over a's.
    let wrong = |history: &mut History| {
        history.rows[1].was = None;
        history.last.insert(place(), holder_value("b-2"));
    };
    finds(Atomic, wrong);
    finds(Durable, wrong);
    let mut history = good();
    wrong(&mut history);
    assert_eq!(lost_updates(&history), 1);
}

#[test]
fn a_read_of_the_past() {
    finds(Linearizable, |history| history.answer("b", 1, Answer::Read(None)));
    finds(Linearizable, |history| {
        history.answer("b", 1, Answer::Read(Some("c-2".into())))
    });
}

#[test]
fn an_acknowledgement_for_nothing() {
    finds(Durable, |history| drop(history.rows.pop()));
    finds(Durable, |history| history.rows[1].committed = 226);
    finds(Linearizable, |history| {
        history.rows.pop();
        history.last.insert(place(), holder_value("a-2"));
    });
}

#[test]
fn a_refusal_that_is_none() {
    finds(Refused, |history| {
        history.answer("b", 2, Answer::Refused("stale".into()))
    });
}

#[test]
fn what_happens_twice() {
    finds(Once, |history| {
        let mut again = history.rows[1].clone();
        again.n += 1;
        history.rows.push(again);
    });
    finds(Once, |history| history.rows[0].op = "nobody's".into());
    finds(Once, |history| history.rows[0].under = (1, 9));
}

#[test]
fn numbers_that_go_down() {
    finds(Monotone, |history| history.marks[0].n = 9);
    finds(Grants, |history| {
        history.answer("b", 0, Answer::Granted(vec![("f".into(), (1, 10))]));
    });
    finds(Grants, |history| {
        history.answer("b", 0, Answer::Granted(vec![("f".into(), (1, 5))]));
    });
}

#[test]
fn a_renewal_of_what_is_over() {
    let renews = |history: &mut History, client: &str, token: Number, at: i64| {
        for (at, what) in [
            (at, What::Asked(Call::Renew("f".into(), token))),
            (at + 1, What::Answered(Answer::Done)),
        ] {
            history.events.push(Event {
                at,
                history: 0,
                client: client.into(),
                number: 9,
                what,
            });
        }
    };
    // Released at 135.
    finds(Renewals, |history| renews(history, "a", (1, 10), 136));
    // Without a release, and the next one granted at 205.
    finds(Renewals, |history| {
        history.answer("a", 3, Answer::Unknown("no answer".into()));
        renews(history, "a", (1, 10), 206);
    });
    let mut history = good();
    renews(&mut history, "b", (1, 20), 229);
    assert!(violations(&history).is_empty());
}

#[test]
fn half_a_transfer() {
    finds(Whole, |history| {
        for event in &mut history.events {
            if let What::Asked(Call::Write { cells, .. }) = &mut event.what {
                let mut other = cells[0].clone();
                other.place.fence = "g".into();
                cells.push(other);
            }
        }
    });
    finds(Whole, |history| {
        let account = Place {
            fence: "f".into(),
            key: crate::record::MONEY.into(),
        };
        history.last.insert(account, holder_value("x"));
    });
}
