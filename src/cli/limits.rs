//! The gateway's limits and timeouts, each a setting of its name.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use clap::Args;
use fencegate::gateway::Config;

/// Longer is a mistake, and clocks overflow on it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// In less nothing can be done.
const SHORTEST: Duration = Duration::from_millis(1);
const TIMEOUT: RangeInclusive<Duration> = SHORTEST..=LONGEST;
/// A time that may also be none at all.
const PAUSE: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Declares the settings: what each is for, its environment variable, its name in [`Config`], how it is written, and
/// from what to what it is. Nothing can be done with less, or memory ends with more; no limit is so high by intent.
macro_rules! limits {
    ($($help:literal $variable:literal $name:ident: $type:ty, $kind:ident, $range:expr, $what:literal;)*) => {
        #[derive(Args)]
        #[command(next_help_heading = "Limits and timeouts")]
        pub(super) struct Limits {
            $(
                #[doc = $help]
                #[arg(
                    long,
                    env = $variable,
                    value_name = $what,
                    default_value = written::$kind(Config::default().$name),
                    value_parser = within::<$type>($range, read::$kind, written::$kind),
                )]
                $name: $type,
            )*
        }

        impl Limits {
            pub(super) fn apply(&self, config: &mut Config) {
                $(config.$name = self.$name;)*
            }
        }
    };
}

limits! {
    "The most bytes of a record's value"
    "FENCEGATE_MAX_VALUE" max_value: usize, bytes, 1..=512 * MIB, "BYTES";
    "The most bytes of a transaction's body"
    "FENCEGATE_MAX_TRANSACTION" max_transaction: usize, bytes, 1..=GIB, "BYTES";
    "The most bytes of any other JSON body"
    "FENCEGATE_MAX_JSON" max_json: usize, bytes, KIB..=GIB, "BYTES";
    "The most bytes that the bodies of all requests under way have together, beyond the first 16 KiB of each"
    "FENCEGATE_MAX_BODIES" max_bodies: usize, bytes, 16 * KIB..=1024 * GIB, "BYTES";
    "The most connections of clients, as far as the limit of open files allows them"
    "FENCEGATE_MAX_CONNECTIONS" max_connections: usize, number, 1..=10_000_000, "NUMBER";
    "The most bytes of a request's head"
    "FENCEGATE_MAX_HEAD" max_head: u32, bytes, 8 << 10..=16 << 20, "BYTES";
    "The most headers of an HTTP/1 request"
    "FENCEGATE_MAX_HEADERS" max_headers: usize, number, 10..=10_000, "NUMBER";
    "How long a new connection may take for its TLS handshake, and then for the head of its first request"
    "FENCEGATE_FIRST_HEAD_TIMEOUT" first_head_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long a connection may take for the head of a further request, and so how long it may be idle"
    "FENCEGATE_HEAD_TIMEOUT" head_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long a request's body may take to arrive"
    "FENCEGATE_BODY_TIMEOUT" body_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long a client may take to take any more of its answer, before its connection is closed"
    "FENCEGATE_STALL_TIMEOUT" stall_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long the answer to a write with an Idempotency-Key is kept"
    "FENCEGATE_IDEMPOTENCY_KEEP" idempotency_keep: Duration, duration, Duration::from_secs(1)..=LONGEST, "DURATION";
    "The longest wait that may be asked for with a lease"
    "FENCEGATE_MAX_WAIT" max_wait: Duration, duration, PAUSE, "DURATION";
    "The most lease requests that wait at the same time"
    "FENCEGATE_MAX_WAITING" max_waiting: usize, number, 0..=10_000_000, "NUMBER";
    "The most clients that listen to /v1/events at the same time"
    "FENCEGATE_MAX_LISTENERS" max_listeners: usize, number, 0..=10_000_000, "NUMBER";
    "The most log lines a second of requests that went well; one in a hundred of those beyond is logged"
    "FENCEGATE_LOG_LINES" log_lines: u32, number, 0..=u32::MAX, "NUMBER";
    "How long a lease request may take beyond the wait that it asks for"
    "FENCEGATE_LEASE_TIMEOUT" lease_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long the store may take to answer a reading request"
    "FENCEGATE_READ_TIMEOUT" read_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long a client waits for its write, which is never cut short: it is told that the outcome is unknown"
    "FENCEGATE_WRITE_TIMEOUT" write_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long /readyz waits for the store and for the lock service"
    "FENCEGATE_PROBE_TIMEOUT" probe_timeout: Duration, duration, TIMEOUT, "DURATION";
    "How long to go on serving after SIGTERM or SIGINT while /readyz says that it ends"
    "FENCEGATE_DRAIN_NOTICE" drain_notice: Duration, duration, PAUSE, "DURATION";
    "How long requests have to finish after SIGTERM or SIGINT"
    "FENCEGATE_DRAIN_TIMEOUT" drain_timeout: Duration, duration, PAUSE, "DURATION";
}

/// Reads a value of the range, and names the range to whoever writes another.
fn within<T: PartialOrd + Clone>(
    range: RangeInclusive<T>,
    read: fn(&str) -> Result<T, String>,
    written: fn(T) -> String,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let (first, last) = (written(range.start().clone()), written(range.end().clone()));
        let range_is = format!("it is from {first} to {last}");
        match read(text) {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(_) => Err(range_is),
            Err(why) => Err(format!("{why}; {range_is}")),
        }
    }
}

/// How values are read. Each is generic in what it is read into, so that a limit is of the type that it is used as.
pub(super) mod read {
    use super::*;

    /// Reads `64KiB`, `1MiB`, `4096`.
    pub(crate) fn bytes<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
        const HOW: &str = "bytes are written as 4096, 64KiB, 1MiB or 1GiB";
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(HOW.into()),
        };
        let bytes: u64 = digits.trim_end().parse().map_err(|_| HOW)?;
        let bytes = bytes.checked_mul(unit);
        let bytes = bytes.and_then(|bytes| T::try_from(bytes).ok());
        bytes.ok_or_else(|| "that is more than can be".into())
    }

    pub(crate) fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
        let number: Result<u64, _> = text.parse();
        let number = number.map_err(|error| format!("it is a whole number: {error}"))?;
        T::try_from(number).map_err(|_| "that is more than can be".into())
    }

    /// Reads `10s`, `1m 30s`, `500ms`.
    pub(crate) fn duration<T: From<Duration>>(text: &str) -> Result<T, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|error| format!("a duration is written as \"10s\" or \"1m 30s\": {error}"))?;
        match duration <= LONGEST {
            true => Ok(duration.into()),
            false => Err("it is at most 365days".into()),
        }
    }

    /// A duration in which something can be done.
    #[cfg(feature = "postgres")]
    pub(crate) fn timeout<T: From<Duration>>(text: &str) -> Result<T, String> {
        match duration::<Duration>(text)? {
            Duration::ZERO => Err("with no time at all, nothing would be done".into()),
            timeout => Ok(timeout.into()),
        }
    }
}

/// How values are written, the other way round.
mod written {
    use super::*;

    pub(super) fn bytes(bytes: impl TryInto<u64>) -> String {
        let bytes = bytes.try_into().unwrap_or(u64::MAX);
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let fits = units
            .into_iter()
            .find(|(unit, _)| bytes >= *unit && bytes % unit == 0);
        fits.map_or(bytes.to_string(), |(unit, name)| {
            format!("{}{name}", bytes / unit)
        })
    }

    pub(super) fn number(number: impl Display) -> String {
        number.to_string()
    }

    pub(super) fn duration(duration: Duration) -> String {
        const DAY: u64 = 24 * 3600;
        // Months are of no use here, and not of whole days.
        match (
            duration.as_secs() / DAY,
            duration.as_secs() % DAY,
            duration.subsec_nanos(),
        ) {
            (days @ 2.., 0, 0) => format!("{days}days"),
            _ => humantime::format_duration(duration).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        for bytes in [0, 1, 1000, 1024, 65536, 1 << 20, 3 << 30, u64::MAX] {
            assert_eq!(read::bytes(&written::bytes(bytes)), Ok(bytes));
        }
        assert_eq!(read::bytes("2 mib"), Ok(2_u64 << 20));
        for wrong in ["", "KiB", "-1", "1.5MiB", "1MB", "1 000", "20000000000GiB", "ü"] {
            assert!(read::bytes::<u64>(wrong).is_err(), "{wrong}");
        }
        assert!(read::bytes::<u32>("4GiB").is_err() && read::number::<u32>("4294967296").is_err());
        assert_eq!(read::duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "10", "-1s", "soon", "366days", "1000000years"] {
            assert!(read::duration::<Duration>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read::duration("0s"), Ok(Duration::ZERO));
        #[cfg(feature = "postgres")]
        assert!(read::timeout::<Duration>("0s").is_err());
    }

    /// The whole line, as `serve` is given it.
    fn limits(line: &[String]) -> Result<Config, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            limits: Limits,
        }
        let line = std::iter::once("serve".to_owned()).chain(line.iter().cloned());
        let line = <Line as clap::Parser>::try_parse_from(line).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        line.limits.apply(&mut config);
        Ok(config)
    }

    #[test]
    fn what_nothing_can_be_done_with_is_refused_and_the_range_named() {
        let all = <Limits as Args>::augment_args(clap::Command::new("serve"));
        for arg in all.get_arguments() {
            let flag = format!("--{}", arg.get_long().unwrap());
            for huge in [
                "18446744073709551615",
                "18446744073709551616",
                "18446744073709551615GiB",
                "366days",
                "584542046y",
                "-1",
            ] {
                let error = limits(&[format!("{flag}={huge}")]).err();
                let error = error.unwrap_or_else(|| panic!("{flag}={huge}"));
                assert!(error.contains(&flag) && error.contains("it is from "), "{error}");
            }
        }
        for none in [
            "--max-value=0",
            "--max-transaction=0",
            "--max-json=0",
            "--max-bodies=0",
            "--max-connections=0",
            "--max-head=8191",
            "--max-headers=0",
            "--head-timeout=1ns",
            "--body-timeout=0s",
            "--stall-timeout=0s",
            "--lease-timeout=0s",
            "--read-timeout=0s",
            "--write-timeout=0s",
            "--probe-timeout=0s",
            "--idempotency-keep=0s",
        ] {
            let error = limits(&[none.to_owned()]).err();
            assert!(error.unwrap_or_else(|| panic!("{none}")).contains("it is from "));
        }
        let error = limits(&["--max-headers=1000000000".to_owned()]).unwrap_err();
        assert!(error.contains("it is from 10 to 10000"), "{error}");
        for some in [
            "--max-waiting=0",
            "--max-listeners=0",
            "--log-lines=0",
            "--max-wait=0s",
        ] {
            limits(&[some.to_owned()]).unwrap();
        }
        assert_eq!(
            limits(&["--max-headers=10000".to_owned()]).unwrap().max_headers,
            10_000
        );
    }
}
