//! The gateway, over real HTTP: in this process on a free port, with a real store and a real lock service
//! behind it.

#[macro_use]
mod world;

pub mod auth;
mod browsers;
mod client;
mod cuts;
mod dashboard;
mod documented;
mod drain;
mod events;
mod fencing;
mod force;
mod foreign;
mod hostile;
mod idempotency;
mod jwt;
mod leases;
mod limits;
mod listing;
mod metrics;
mod names;
mod outages;
mod patches;
pub mod program;
mod records;
#[cfg(feature = "zookeeper")]
mod redirects;
mod rejections;
mod replicas;
mod requests;
mod secrets;
pub mod tls;
mod tokens;
#[cfg(feature = "otel")]
mod traces;
mod transactions;
mod typed;

pub use client::{Answer, Client};
pub use world::Gateway;
use world::World;
