//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod conformance;
mod support;

mod servers;
#[cfg(feature = "zookeeper")]
mod zookeeper;
