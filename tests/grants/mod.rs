//! What a grant and its token promise, tried by those who would break it.

mod cancelled;
mod crashes;
pub mod foreign;
mod groups;
mod groups_waiting;
mod histories;
mod leases;
mod many;
mod order;
mod restarts;
mod rule;
mod sealing;
mod tokens;
