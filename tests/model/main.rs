//! The protocol of grants as a model, explored exhaustively within bounds by `stateright`; and the ballots of Redlock
//! as another.
//!
//! The model is of one fence and one record, with any number of expiries, pauses and late duplicates: a client may be
//! overtaken between any two of its steps, a lock may end whenever it is held, and every token that was ever handed
//! out may be shown again at any time. What decides is the crate's own rule (`fencegate::rule`).
//!
//! `make model` explores it, and `MODEL=large make model` within wider bounds (many minutes, and gigabytes).
//!
//! Clients are interchangeable and kept in order, so the numbers of clients in a printed path are places in that order.

mod explore;
mod fence;
mod fence_steps;
mod fence_tests;
mod redlock;
mod redlock_tests;
