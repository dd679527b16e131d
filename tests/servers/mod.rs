//! The ground under the other tests: each server starts, answers, and keeps its data over `kill -9`.

mod etcd;
mod postgres;
