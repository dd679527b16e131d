//! docs/adopting.md: an existing table, from its first report to the refusal of whoever has no token.

use super::{super::gateway::program::Program, run};
use crate::support::Postgres;

const PAGE: &str = include_str!("../../docs/adopting.md");

#[tokio::test]
async fn each_step_does_what_it_says() {
    let server = Postgres::start().await;
    let url = server.url();
    let program = Program::new();
    run(
        PAGE,
        &program,
        &[("DATABASE_URL", &url)],
        ("postgres://billing@db/shop", &url),
    );
}
