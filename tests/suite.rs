//! Every test of the project, in one binary: it links once, and all of it shares `support`.

mod conformance;
mod demo;
mod gateway;
mod grants;
mod guard;
mod readme;
mod servers;
mod support;
mod world;
