//! What a verb says on standard output: for people, or as JSON for programs.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use comfy_table::Table;
use serde::Serialize;

/// How to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
}

#[derive(Args)]
pub(super) struct Output {
    /// How the output is written
    #[arg(
        long = "output",
        value_name = "FORMAT",
        env = "FENCEGATE_OUTPUT",
        default_value = "table"
    )]
    format: Format,
}

impl Output {
    /// Says it in one way or the other.
    pub(super) fn say(&self, json: &impl Serialize, people: impl FnOnce() -> String) -> anyhow::Result<()> {
        line(&self.text(json, people)?)
    }

    /// What there is to say, in one way or the other.
    pub(super) fn text(
        &self,
        json: &impl Serialize,
        people: impl FnOnce() -> String,
    ) -> anyhow::Result<String> {
        Ok(match self.format {
            Format::Json => serde_json::to_string_pretty(json)?,
            Format::Table => people(),
        })
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// A text with a line end, unless it is empty.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    match text {
        "" => Ok(()),
        text => bytes(format!("{text}\n").as_bytes()),
    }
}

/// Bytes as they are. Ends the program where nobody reads them.
pub(super) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => unheard(error),
        Ok(()) => Ok(()),
    }
}

/// Bytes as they are, for a verb that has something to do when they cannot be written.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// What it comes to that something could not be written: whoever has stopped reading has read enough.
pub(super) fn unheard(error: io::Error) -> anyhow::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(anyhow::Error::new(error).context("the standard output cannot be written")),
    }
}

/// Says something on standard error. Nobody may be reading, which is no reason to end.
pub(super) fn aside(text: &str) {
    let _ = writeln!(io::stderr(), "fencegate: {text}");
}

/// Rows under their headings, without lines; nothing at all where there are no rows.
pub(super) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = plain();
    table.set_header(headings);
    table.add_rows(rows);
    if table.is_empty() {
        return String::new();
    }
    tidy(table)
}

/// Names and what they stand for.
pub(super) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut table = plain();
    for (name, value) in fields {
        if let Some(value) = value {
            table.add_row([name, value.as_str()]);
        }
    }
    tidy(table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}

fn tidy(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
