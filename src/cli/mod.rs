//! The command line: a file for each verb.
//!
//! Errors end in one line on standard error that says what to do, and an exit status that says what kind it is
//! (`exit.rs`). Connection URLs are never shown, since they may have passwords in them, and neither are tokens, unless
//! a token is what was asked for.

mod access;
mod check;
mod completions;
mod config;
mod declare;
mod demo;
mod doctor;
mod exit;
mod held;
mod held_around;
mod key;
mod lease;
mod limits;
mod logging;
mod migrate;
mod output;
#[cfg(feature = "postgres")]
mod protect;
mod read;
mod rebase;
mod rejections;
mod run;
mod secret;
mod serve;
mod servers;
mod settings;
mod through_gateway;
mod token;
mod traces;
mod write;

use std::{process::ExitCode, sync::LazyLock};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use fencegate::{FenceName, NameError};

use exit::Exit;
use settings::Settings;

/// The version, and what was built in.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let features = [
        ("etcd", cfg!(feature = "etcd")),
        ("zookeeper", cfg!(feature = "zookeeper")),
        ("redis", cfg!(feature = "redis")),
        ("postgres", cfg!(feature = "postgres")),
        ("sqlite", cfg!(feature = "sqlite")),
        ("otel", cfg!(feature = "otel")),
    ];
    let built_in: Vec<_> = features
        .iter()
        .filter(|feature| feature.1)
        .map(|feature| feature.0)
        .collect();
    format!(
        "{}\nbuilt with: {}",
        env!("CARGO_PKG_VERSION"),
        built_in.join(", ")
    )
});

/// Where to begin.
const AFTER_HELP: &str = "`fencegate demo` shows what it is for. To hold a lock: `fencegate run --fence NAME -- COMMAND` \
    around a command, `fencegate lease acquire NAME` from a script, beside `fencegate serve`.";

/// Distributed locks whose fencing tokens the resource really enforces.
#[derive(Parser)]
#[command(version, long_version = LONG_VERSION.as_str(), about, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Watch a paused lock holder wake up, write, and be refused
    Demo(demo::Demo),
    /// One of the demo's writers
    #[command(hide = true)]
    DemoWriter(demo::DemoWriter),
    /// Run the gateway: HTTP in front of a lock service and a store
    Serve(Box<serve::Serve>),
    /// Run a command while holding a fence, with the token in its environment
    Run(run::Run),
    /// Acquire, renew, release, list and show leases through a gateway
    Lease(lease::Lease),
    /// Write a record under a token, through a gateway
    Write(write::Write),
    /// Read a record, or list the records of a fence, through a gateway
    Read(read::Read),
    /// Ask whether a token may act now
    Check(check::Check),
    /// Show who was refused, when, and how late
    Rejections(rejections::Rejections),
    /// Look whether the servers are there, and safe to use
    Doctor(doctor::Doctor),
    /// Bring the store's tables up to this version
    Migrate(migrate::Migrate),
    /// Have a table of yours written only under its fence
    #[cfg(feature = "postgres")]
    Protect(protect::Protect),
    /// Take that back
    #[cfg(feature = "postgres")]
    Unprotect(protect::Unprotect),
    /// Raise the epoch, when the numbers of before cannot be trusted any more
    Rebase(rebase::Rebase),
    /// Say how the store is replicated
    Declare(declare::Declare),
    /// Print a script that completes command lines in a shell
    Completions(completions::Completions),
    /// Print the settings with where each is from, or check them
    Config(config::Config),
    /// Make API keys
    Key(key::Key),
}

/// Runs the verb that the command line names.
pub async fn run() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let settings = Settings::read(Cli::command(), &line).unwrap_or_else(|error| error.exit());
    let cli = Cli::from_arg_matches(&settings.matches).unwrap_or_else(|error| error.exit());
    // Of what the environment says one may count before the other; who says both means one of them.
    if matches!(cli.verb, Verb::Run(_) | Verb::Rejections(_)) && settings.is_said("gateway") {
        for other in ["store", "locks"] {
            if settings.is_said(other) {
                usage(&format!(
                    "--{other} and --gateway cannot both be given: it is one or the other"
                ));
            }
        }
    }
    let _traces = logging::start(match cli.verb {
        Verb::Serve(_) => logging::SERVICE,
        Verb::Demo(_) => logging::SILENT,
        _ => logging::QUIET,
    });
    let done = match cli.verb {
        Verb::Demo(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        Verb::DemoWriter(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        Verb::Serve(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        Verb::Run(verb) => verb.run().await,
        Verb::Lease(verb) => verb.run().await,
        Verb::Write(verb) => verb.run().await,
        Verb::Read(verb) => verb.run().await,
        Verb::Check(verb) => verb.run().await,
        Verb::Rejections(verb) => verb.run().await,
        Verb::Doctor(verb) => verb.run().await,
        Verb::Migrate(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "postgres")]
        Verb::Protect(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "postgres")]
        Verb::Unprotect(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        Verb::Rebase(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        Verb::Declare(verb) => verb.run().await.map(|()| ExitCode::SUCCESS),
        Verb::Completions(verb) => verb.run(),
        Verb::Config(verb) => verb.run(&settings).await.map(|()| ExitCode::SUCCESS),
        Verb::Key(verb) => verb.run().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        let advice = exit::advice(&error).map(|advice| format!(" ({advice})"));
        output::aside(&format!("{}{}", exit::told(&error), advice.unwrap_or_default()));
        Exit::of(&error).into()
    })
}

/// Reads a fence's name.
fn fence(text: &str) -> Result<FenceName, NameError> {
    text.parse()
}

/// For people who ask who holds a fence: what for, and on which machine.
fn label(what: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let label = format!("{what} on {host}, process {}", std::process::id());
    label.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// For the audit log: which user, on which machine.
fn who() -> String {
    let user =
        std::env::var("USER").unwrap_or_else(|_| format!("user {}", rustix::process::geteuid().as_raw()));
    format!(
        "{user} on {}",
        rustix::system::uname().nodename().to_string_lossy()
    )
}

/// Ends the program as a command line that cannot be read does. The message says what to write: how the program is used
/// at large would help nobody.
fn usage(message: &str) -> ! {
    let kind = clap::error::ErrorKind::MissingRequiredArgument;
    let error: clap::Error = clap::Error::raw(kind, format!("{message}\n"));
    error.exit()
}
