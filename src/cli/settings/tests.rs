//! The settings, and their documentation.

use std::{ffi::OsString, path::Path};

use clap::{CommandFactory, FromArgMatches};

use super::*;
use crate::cli::Cli;

/// What a verb's settings come to with this file and this line.
fn read(file: &str, line: &[&str]) -> Result<Vec<Effective>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    std::fs::write(&path, file).unwrap();
    let mut all: Vec<OsString> = vec!["fencegate".into()];
    all.extend(line.iter().map(|word| (*word).into()));
    all.extend(["--config".into(), path.into_os_string()]);
    let settings = Settings::read(Cli::command(), &all).map_err(|error| error.to_string())?;
    Cli::from_arg_matches(&settings.matches).map_err(|error| error.to_string())?;
    Ok(settings.effective())
}

fn one<'a>(settings: &'a [Effective], key: &str) -> &'a Effective {
    settings
        .iter()
        .find(|setting| setting.key == key)
        .unwrap_or_else(|| panic!("{key}"))
}

fn value(settings: &[Effective], key: &str) -> String {
    one(settings, key).values.clone().unwrap_or_default().join(",")
}

#[test]
fn a_flag_counts_before_the_file_and_the_file_before_the_default() {
    let file = "max_value = \"2MiB\"\nmax_headers = 50\nmigrate = true\njwt_audiences = [\"a\", \"b\"]\n";
    let settings = read(file, &["serve", "--max-headers", "60", "--migrate=false"]).unwrap();
    for (key, expected, source) in [
        ("max_value", "2MiB", "settings.toml"),
        ("max_headers", "60", "--max-headers"),
        ("migrate", "false", "--migrate"),
        ("jwt_audiences", "a,b", "settings.toml"),
        ("max_json", "16KiB", "default"),
        ("allow_plaintext", "false", "default"),
    ] {
        assert_eq!(value(&settings, key), expected, "{key}");
        let found = &one(&settings, key).source;
        assert!(found.ends_with(source), "{key} {found}");
    }
    let settings = read(file, &["serve"]).unwrap();
    assert_eq!(value(&settings, "migrate"), "true");
    let settings = read("", &["serve", "--migrate"]).unwrap();
    assert_eq!(value(&settings, "migrate"), "true");
    assert_eq!(one(&settings, "clients").values, None);
    // A setting of one verb is no mistake in the file that another reads.
    assert!(read(file, &["migrate"]).is_ok());
}

#[test]
fn mistakes_in_the_file_are_named_and_no_value_is_shown() {
    for (file, said) in [
        (
            "max_vaule = 1",
            "no setting is called \"max_vaule\": max_value may be meant",
        ),
        ("maxvalue = 1", "max_value may be meant"),
        ("colour = \"hunter2\"", "no setting is called \"colour\""),
        ("config = \"hunter2\"", "no setting is called \"config\""),
        ("fence = \"hunter2\"", "no setting is called \"fence\""),
        ("[limits]\nmax_value = 1", "no setting is called \"limits\""),
        (
            "max_value = \"hunter2\"",
            "max_value cannot be what it is: bytes are written as",
        ),
        ("max_value = -1", "max_value cannot be what it is"),
        (
            "max_value = 1.5",
            "max_value is a text, a number, or true or false",
        ),
        (
            "max_value = [1]",
            "max_value is a text, a number, or true or false",
        ),
        ("max_headers = 99999999999999999999999", "line 1"),
        (
            "body_timeout = 10",
            "body_timeout cannot be what it is: a duration is written as",
        ),
        ("body_timeout = \"0s\"", "it is from 1ms to 365days"),
        ("max_headers = 0", "it is from 10 to 10000"),
        ("max_headers = 1000000000", "it is from 10 to 10000"),
        ("listen = \"nowhere\"", "listen cannot be what it is"),
        ("migrate = \"perhaps\"", "migrate cannot be what it is"),
        (
            "store = \"file:/nowhere/at/all\"",
            "store cannot be what it is: /nowhere/at/all cannot be read",
        ),
        (
            "store = \"postgres:...hidden\"",
            "store cannot be what it is: it was hidden when the settings were printed",
        ),
        (
            "jwt_audiences = [[\"hunter2\"]]",
            "jwt_audiences is a text or a list of texts",
        ),
        ("a = 1\nb = \"hunter2", "line 2"),
        ("max_value = 1\nmax_value = 2", "line 2"),
    ] {
        let error = read(file, &["serve"]).err().unwrap_or_else(|| panic!("{file}"));
        assert!(error.contains(said), "{file}\n{error}");
        assert!(
            error.contains("settings.toml") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn the_demo_has_no_settings() {
    let command = switches(Cli::command());
    for name in ["demo", "demo-writer"] {
        let verb = command.find_subcommand(name).unwrap();
        assert!(!takes_settings(verb), "{name}");
        assert!(verb.get_arguments().all(|arg| arg.get_env().is_none()), "{name}");
    }
    assert_eq!(config(&command, &["fencegate".into(), "demo".into()]), None);
    assert_eq!(
        config(&command, &["fencegate".into(), "serve".into()]),
        Some(None)
    );
}

#[test]
fn flag_variable_and_key_have_one_name() {
    let command = switches(Cli::command());
    let settings = all(&command);
    assert!(settings.len() > 30, "{}", settings.len());
    for arg in settings {
        assert_eq!(variable(arg), format!("FENCEGATE_{}", key(arg).to_uppercase()));
    }
}

#[test]
fn every_field_of_the_configuration_can_be_set() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let keys: Vec<_> = serve
        .get_arguments()
        .filter(|arg| is_setting(arg))
        .map(key)
        .collect();
    let all = format!("{:#?}", fencegate::gateway::Config::default());
    let fields = all
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(':'));
    let fields: Vec<_> = fields
        .map(|(field, _)| field)
        .filter(|field| !field.starts_with(' '))
        .collect();
    assert!(fields.len() > 20, "{all}");
    for field in fields {
        match field {
            "authentication" => {
                assert!(keys.contains(&"clients".into()) && keys.contains(&"jwt_keys".into()))
            }
            "tls" => assert!(keys.contains(&"tls_certificate".into())),
            field => assert!(keys.iter().any(|key| key == field), "nothing sets {field}"),
        }
    }
}

/// The table of docs/configuration.md, as it has to be.
fn table() -> String {
    let command = switches(Cli::command());
    let serve = command.find_subcommand("serve").unwrap();
    let rows = serve.get_arguments().filter(|arg| is_setting(arg)).map(|arg| {
        let default: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|text| text.to_string_lossy())
            .collect();
        let default = match default.join(",") {
            none if none.is_empty() => String::new(),
            default => format!("`{default}`"),
        };
        let value = arg.get_value_names().unwrap_or_default().join(" ");
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        format!("| `{}` | {value} | {default} | {help} |\n", key(arg))
    });
    format!(
        "| setting | value | default | what it is |\n| --- | --- | --- | --- |\n{}",
        rows.collect::<String>()
    )
}

#[test]
fn the_documentation_has_every_setting() {
    const BEGIN: &str = "<!-- settings -->\n";
    const END: &str = "<!-- end of settings -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("FENCEGATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(
            found,
            table(),
            "FENCEGATE_WRITE_DOCS=1 cargo test the_documentation writes it"
        );
    }
}
