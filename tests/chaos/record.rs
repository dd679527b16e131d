//! What clients did and when, written down as it happens: an operation is noted before it is sent, so that one whose
//! client is killed meanwhile is still known, as one that may have happened.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A token without its holder: epoch and sequence.
pub type Number = (i64, i64);

/// One end of an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds since 1970, on the clock that Postgres stamps its commits with.
    pub at: i64,
    pub history: usize,
    pub client: String,
    /// Of the client's operations, which.
    pub number: u32,
    pub what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum What {
    Asked(Call),
    Answered(Answer),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Call {
    Grant(Vec<String>),
    Release(Vec<(String, Number)>),
    Renew(String, Number),
    Read(Place),
    Write {
        cells: Vec<Cell>,
        /// Empty where the fence is off.
        under: Vec<(String, Number)>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    Granted(Vec<(String, Number)>),
    /// The operation that had written what is there.
    Read(Option<String>),
    Done,
    /// It has not happened, and never will.
    Refused(String),
    /// It may have happened, or may yet happen.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub fence: String,
    pub key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    pub place: Place,
    pub value: Value,
}

/// What a record holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// The operation that wrote it, which no other one repeats.
    pub op: String,
    /// The operation whose value was read and changed. None where there was none, or nothing was read.
    pub was: Option<String>,
    /// A number that is counted up, or an account's balance.
    pub n: i64,
    /// Every operation that has changed it.
    pub list: Vec<String>,
}

impl Place {
    /// Whether what is there is only ever changed by whoever has read it.
    pub fn is_computed(&self) -> bool {
        self.key != NOTE
    }
}

/// The key of what is written without a look at what was there.
pub const NOTE: &str = "note";
pub const LIST: &str = "list";
pub const COUNT: &str = "count";
pub const MONEY: &str = "money";

/// A file of events, one a line.
#[derive(Debug, Clone)]
pub struct Journal(Arc<File>);

impl Journal {
    pub fn append_to(path: &Path) -> Self {
        Self(Arc::new(
            File::options().create(true).append(true).open(path).unwrap(),
        ))
    }

    pub fn note(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).unwrap();
        line.push(b'\n');
        // One write, so that lines of several tasks do not mix.
        self.0.as_ref().write_all(&line).unwrap();
    }
}

/// The events of a file. Its last line may be half a one, of a client that was killed.
pub fn read(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("a line of a journal"))
        .collect()
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}
