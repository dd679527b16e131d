//! Settings: what can be said by a flag, by an environment variable, or in `fencegate.toml`, and counts in this order.
//!
//! A setting is a flag that has an environment variable. Its key in the file is its name: `max_value` is `--max-value`
//! and `FENCEGATE_MAX_VALUE`. A verb with the flag `--config` takes settings from the file; there, what the file says is
//! what counts when nothing else is said. Verbs without it, as `demo`, do not look at the file.

mod file;

use std::path::PathBuf;

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::BoolishValueParser,
    error::{Error, ErrorKind},
    parser::ValueSource,
};

pub(super) use file::File;

/// The flag that names the file. A verb that has it takes settings from there.
const CONFIG: &str = "config";

/// The command line as it was understood, with the file.
pub(super) struct Settings {
    pub(super) matches: ArgMatches,
    command: Command,
    file: Option<File>,
}

/// One setting of a verb, and what it comes to.
pub(super) struct Effective {
    pub(super) key: String,
    /// As it was written; more than one where it is a list. None where it is not set.
    pub(super) values: Option<Vec<String>>,
    pub(super) source: String,
    pub(super) is_secret: bool,
    pub(super) is_list: bool,
}

impl Settings {
    /// Reads the command line and the file.
    ///
    /// # Errors
    /// As clap has them: also for help and version.
    pub(super) fn read(command: Command, line: &[std::ffi::OsString]) -> Result<Self, Error> {
        let mut command = switches(command);
        let file = match config(&command, line) {
            None => None,
            Some(named) => {
                let file = File::find(named, &command)
                    .map_err(|error| Error::raw(ErrorKind::InvalidValue, format!("{error}\n")))?;
                if let Some(file) = &file {
                    command = with_defaults(command, file);
                }
                file
            }
        };
        let matches = command.clone().try_get_matches_from(line)?;
        Ok(Self {
            matches,
            command,
            file,
        })
    }

    /// The file that was read.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Whether the command line itself has this argument of the verb.
    pub(super) fn is_said(&self, id: &str) -> bool {
        let (command, matches) = verb(&self.command, &self.matches);
        command.get_arguments().any(|arg| arg.get_id() == id)
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// What the settings of the verb come to.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let (command, matches) = verb(&self.command, &self.matches);
        let settings = command.get_arguments().filter(|arg| is_setting(arg));
        settings.map(|arg| self.one(arg, matches)).collect()
    }

    fn one(&self, arg: &Arg, matches: &ArgMatches) -> Effective {
        let key = key(arg);
        let raw = matches.get_raw(arg.get_id().as_str());
        let source = match matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => format!("--{}", arg.get_long().unwrap_or_default()),
            Some(ValueSource::EnvVariable) => variable(arg),
            _ => match &self.file {
                Some(file) if file.has(&key) => file.path().display().to_string(),
                _ => "default".into(),
            },
        };
        Effective {
            values: raw.map(|raw| raw.map(|text| text.to_string_lossy().into_owned()).collect()),
            source,
            is_secret: arg.is_hide_env_values_set(),
            is_list: is_list(arg),
            key,
        }
    }
}

/// Where the command line, or the environment, says that the file is. None for a verb that takes no settings from it.
fn config(command: &Command, line: &[std::ffi::OsString]) -> Option<Option<PathBuf>> {
    // What is wrong with the line is found when it is read with the file.
    let matches = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(line)
        .ok()?;
    let (_, matches) = verb(command, &matches);
    let named = matches.try_get_one::<PathBuf>(CONFIG).ok()?;
    Some(named.filter(|path| !path.as_os_str().is_empty()).cloned())
}

/// The innermost verb that the line names.
fn verb<'a>(command: &'a Command, matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    match matches.subcommand() {
        Some((name, matches)) => match command.find_subcommand(name) {
            Some(command) => verb(command, matches),
            None => (command, matches),
        },
        None => (command, matches),
    }
}

/// Switches can be said to be off, too: a flag has to be able to take back what the file says.
fn switches(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue if is_setting(&arg) => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(BoolishValueParser::new())
            .value_name("BOOL")
            .hide_possible_values(true)
            .hide_default_value(true),
        _ => arg,
    });
    command.mut_subcommands(switches)
}

/// What the file says is the default of what it says it of.
fn with_defaults(command: Command, file: &File) -> Command {
    let takes_settings = takes_settings(&command);
    let command = command.mut_args(|arg| {
        let said = match takes_settings && is_setting(&arg) {
            true => file.get(&key(&arg)),
            false => None,
        };
        match said {
            Some(values) => arg.default_values(values.to_vec()),
            None => arg,
        }
    });
    command.mut_subcommands(|command| with_defaults(command, file))
}

fn takes_settings(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == CONFIG)
}

/// All settings of all verbs.
fn all(command: &Command) -> Vec<&Arg> {
    let mut found: Vec<&Arg> = match takes_settings(command) {
        true => command.get_arguments().filter(|arg| is_setting(arg)).collect(),
        false => Vec::new(),
    };
    found.extend(command.get_subcommands().flat_map(all));
    found
}

fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_long().is_some() && arg.get_id() != CONFIG
}

fn is_list(arg: &Arg) -> bool {
    arg.get_value_delimiter().is_some()
}

fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

fn variable(arg: &Arg) -> String {
    let variable = arg.get_env().unwrap_or_default();
    variable.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
