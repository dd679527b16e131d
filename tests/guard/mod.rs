//! The guard on real Postgres: from Rust, from SQL, and against those who would pass it.

mod examples;
mod migrations;
mod one_message;
mod protect;
mod random;
mod rejections;
mod roles;
mod rust;
pub mod session;
mod stalled;
mod traps;
pub mod traps_alone;
