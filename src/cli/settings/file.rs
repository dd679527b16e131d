//! `fencegate.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Command, builder::Resettable};
use toml::{Table, Value};

use super::{all, is_list, key};

/// Where the file is, if there is one and no other is named.
const USUAL: &str = "fencegate.toml";
/// How much a name may differ from one that may be meant.
const ALIKE: f64 = 0.7;

/// What the file says.
pub(in crate::cli) struct File {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

impl File {
    /// Reads the file that is named, or else the usual one if it is there.
    pub(super) fn find(named: Option<PathBuf>, command: &Command) -> Result<Option<Self>, String> {
        match named {
            Some(path) => Self::read(path, command).map(Some),
            None if Path::new(USUAL).exists() => Self::read(USUAL.into(), command).map(Some),
            None => Ok(None),
        }
    }

    fn read(path: PathBuf, command: &Command) -> Result<Self, String> {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("the settings in {} cannot be read: {error}", path.display()))?;
        let values = parse(&text, command).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, values })
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&[String]> {
        self.values.get(key).map(Vec::as_slice)
    }
}

/// The values of a file's text, as flags would have them. Errors show names and never values, which may be secret.
fn parse(text: &str, command: &Command) -> Result<BTreeMap<String, Vec<String>>, String> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    let settings = all(command);
    let mut values = BTreeMap::new();
    for (name, value) in table {
        let Some(arg) = settings.iter().find(|arg| key(arg) == name) else {
            let names = settings.iter().map(|arg| key(arg));
            return Err(format!("no setting is called {name:?}{}", meant(&name, names)));
        };
        let given = match value {
            Value::Array(all) if is_list(arg) => all.into_iter().map(scalar).collect(),
            value => scalar(value).map(|text| vec![text]),
        };
        let given: Option<Vec<String>> = given;
        let kind = if is_list(arg) {
            "a text or a list of texts"
        } else {
            "a text, a number, or true or false"
        };
        let given = given.ok_or_else(|| format!("{name} is {kind}"))?;
        // By itself and without its environment variable, so that it is this value that is found wrong.
        let alone = (*arg)
            .clone()
            .env(Resettable::<clap::builder::OsStr>::Reset)
            .required(false);
        let line = given
            .iter()
            .map(|text| format!("--{}={text}", arg.get_long().unwrap_or_default()));
        let line = std::iter::once("fencegate".to_owned()).chain(line);
        if let Err(error) = Command::new("fencegate").arg(alone).try_get_matches_from(line) {
            use std::error::Error;
            let why = error.source().map(|why| format!(": {why}"));
            return Err(format!("{name} cannot be what it is{}", why.unwrap_or_default()));
        }
        values.insert(name, given);
    }
    Ok(values)
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Says which name may be meant.
fn meant(name: &str, names: impl Iterator<Item = String>) -> String {
    let alike = names.map(|known| (strsim::jaro_winkler(name, &known), known));
    let nearest = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((alike, known)) if alike > ALIKE => format!(": {known} may be meant"),
        _ => ": `fencegate config print` lists all there are".into(),
    }
}
