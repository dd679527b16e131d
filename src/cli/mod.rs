//! The command line: a file for each verb.
//!
//! Errors end in one line on standard error that says what to do, and exit status 1; a command line that cannot
//! be read in 2. Connection URLs are never shown, since they may have passwords in them.

mod demo;
mod logging;
mod migrate;
mod run;
mod serve;
mod servers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Distributed locks whose fencing tokens the resource really enforces.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
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
    Serve(serve::Serve),
    /// Run a command while holding a fence, with the token in its environment
    Run(run::Run),
    /// Bring the store's tables up to this version
    Migrate(migrate::Migrate),
}

/// Runs the verb that the command line names.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    logging::start(match cli.verb {
        Verb::Serve(_) => logging::SERVICE,
        _ => logging::QUIET,
    });
    let done = match cli.verb {
        Verb::Demo(verb) => verb.run().await,
        Verb::DemoWriter(verb) => verb.run().await,
        Verb::Serve(verb) => verb.run().await,
        Verb::Run(verb) => match verb.run().await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Verb::Migrate(verb) => verb.run().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fencegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program as a command line that cannot be read does.
fn usage(message: &str) -> ! {
    use clap::{CommandFactory, error::ErrorKind};
    Cli::command()
        .error(ErrorKind::MissingRequiredArgument, message)
        .exit()
}
