//! What Redis itself can do: `redis-benchmark` with the scripts of our lock, each by itself.

use std::process::Command;

use crate::{
    ours::Load,
    support::{Redis, programs},
};

const VALUE: &str = include_str!("../../src/lock/redis/value.lua");
const ACQUIRE: &str = concat!(
    include_str!("../../src/lock/redis/value.lua"),
    include_str!("../../src/lock/redis/acquire.lua")
);
const RELEASE: &str = concat!(
    include_str!("../../src/lock/redis/value.lua"),
    include_str!("../../src/lock/redis/release.lua")
);
/// Locks that are there to be released, all of one holder.
const FILL: &str = "for i = 0, ARGV[1] - 1 do
    redis.call('set', string.format('fencegate/locks/%012d', i), write(ARGV[2], '1', ARGV[3], '10000', ''), 'px', 600000)
end";

const REQUESTS: u32 = 40_000;
/// Ten times as many, so that few are hit a second time.
const LOCKS: u32 = REQUESTS * 10;

/// Cycles a second of so many connections, if each did one script after the other.
pub async fn cycles(server: &Redis, load: Load) -> f64 {
    assert!(!load.one, "it takes a lock that nobody has");
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client
        .get_multiplexed_async_connection_with_config(
            &redis::AsyncConnectionConfig::new()
                .set_response_timeout(Some(std::time::Duration::from_secs(60))),
        )
        .await
        .expect("connected");
    let holder = "ab".repeat(32);
    let attempt = format!("{:020}", 1);
    let clear = async |connection: &mut redis::aio::MultiplexedConnection| {
        redis::cmd("FLUSHALL")
            .exec_async(connection)
            .await
            .expect("flushed");
    };
    let load_script = async |connection: &mut redis::aio::MultiplexedConnection, script: &str| {
        redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script)
            .query_async::<String>(connection)
            .await
            .expect("loaded")
    };
    let acquire = load_script(&mut connection, ACQUIRE).await;
    let release = load_script(&mut connection, RELEASE).await;

    let lock = "fencegate/locks/__rand_int__";
    clear(&mut connection).await;
    let acquiring = rate(
        server,
        load.workers,
        u32::MAX,
        &[
            "EVALSHA",
            &acquire,
            "3",
            lock,
            "fencegate/locks//sequence/__rand_int__",
            "fencegate/locks//identity",
            &holder,
            &attempt,
            "10000",
            "",
            "0",
            "be5fd0b2-9f5f-4a55-8d0b-1f1f2f1c2a3b",
        ],
    );
    clear(&mut connection).await;
    redis::cmd("EVAL")
        .arg(format!("{VALUE}{FILL}"))
        .arg(0)
        .arg(LOCKS)
        .arg(&holder)
        .arg(&attempt)
        .exec_async(&mut connection)
        .await
        .expect("filled");
    let releasing = rate(
        server,
        load.workers,
        LOCKS,
        &[
            "EVALSHA",
            &release,
            "1",
            lock,
            &holder,
            "1",
            "",
            "fencegate/locks//released/__rand_int__",
        ],
    );
    clear(&mut connection).await;
    1.0 / (1.0 / acquiring + 1.0 / releasing)
}

/// Requests a second.
fn rate(server: &Redis, connections: usize, random: u32, command: &[&str]) -> f64 {
    let output = Command::new(programs::find("redis-benchmark", "redis-tools", &[]))
        .args(["--csv", "-p", &server.port().to_string()])
        .args(["-c", &connections.to_string(), "-n", &REQUESTS.to_string()])
        .args(["-r", &random.to_string()])
        .args(command)
        .output()
        .expect("redis-benchmark runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The command, whose text has commas of its own, comes first; then come the rate and six latencies.
    let last = text.lines().last().unwrap_or_default();
    let fields: Vec<_> = last.split("\",\"").collect();
    fields
        .get(1)
        .and_then(|rate| rate.trim_matches('"').parse().ok())
        .unwrap_or_else(|| {
            panic!(
                "redis-benchmark said {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
}
