//! A failing history as text: what is wrong, what was done to whom, and a time line with a column for each client and
//! one for the database.

use std::fmt::Write;

use crate::{
    check::{History, Violation},
    plan::Plan,
    record::{Answer, Call, Cell, Event, Number, Place, What},
};

const WIDTH: usize = 34;

pub fn draw(history: &History, violations: &[Violation], plan: &Plan, begun: i64) -> String {
    let mut text = String::new();
    for violation in violations {
        writeln!(text, "{:?}: {}", violation.promise, violation.text).unwrap();
    }
    writeln!(text, "\nDone to them: {plan}\n").unwrap();
    let mut columns: Vec<&str> = Vec::new();
    for event in &history.events {
        if !columns.contains(&event.client.as_str()) {
            columns.push(&event.client);
        }
    }
    columns.sort_unstable();
    // When, in which column, what.
    let mut lines: Vec<(i64, usize, String)> = Vec::new();
    for event in &history.events {
        let column = columns.iter().position(|column| *column == event.client).unwrap();
        lines.push((event.at, column, said(event)));
    }
    for row in &history.rows {
        let what = format!("{} {} {}", row.op, place(&row.place), token(row.under));
        lines.push((row.committed, columns.len(), what));
    }
    for (at, act) in &plan.steps {
        lines.push((begun + at.as_micros() as i64, usize::MAX, format!("{act:?}")));
    }
    lines.sort_by_key(|line| line.0);
    write!(text, "{:>9} ", "ms").unwrap();
    for column in columns.iter().chain(&["committed"]) {
        write!(text, "| {column:WIDTH$} ").unwrap();
    }
    text.push('\n');
    for (at, column, what) in lines {
        let ms = (at - begun) as f64 / 1000.0;
        if column == usize::MAX {
            writeln!(text, "{ms:9.1} ==== {what} ====").unwrap();
            continue;
        }
        write!(text, "{ms:9.1} ").unwrap();
        for i in 0..=columns.len() {
            let what = if i == column { what.as_str() } else { "" };
            write!(text, "| {what:WIDTH$} ").unwrap();
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn said(event: &Event) -> String {
    let number = event.number;
    match &event.what {
        What::Asked(Call::Grant(fences)) => {
            let fences: Vec<&str> = fences.iter().map(|fence| short(fence)).collect();
            format!("{number} grant {}?", fences.join(" "))
        }
        What::Asked(Call::Release(tokens)) => format!("{number} release {}?", each(tokens)),
        What::Asked(Call::Renew(fence, number_of)) => {
            format!("{number} renew {}:{}?", short(fence), token(*number_of))
        }
        What::Asked(Call::Read(of)) => format!("{number} read {}?", place(of)),
        What::Asked(Call::Write { cells, under }) => {
            let cell = |cell: &Cell| {
                let was = cell.value.was.as_deref().unwrap_or("-");
                format!("{} over {was}", place(&cell.place))
            };
            let cells: Vec<String> = cells.iter().map(cell).collect();
            format!("{number} write {} {}?", cells.join(", "), each(under))
        }
        What::Answered(Answer::Granted(tokens)) => format!("{number} = granted {}", each(tokens)),
        What::Answered(Answer::Read(seen)) => format!("{number} = {}", seen.as_deref().unwrap_or("-")),
        What::Answered(Answer::Done) => format!("{number} = done"),
        What::Answered(Answer::Refused(why)) => format!("{number} = REFUSED {why}"),
        What::Answered(Answer::Unknown(why)) => format!("{number} = unknown {why}"),
    }
}

fn each(tokens: &[(String, Number)]) -> String {
    let each = tokens
        .iter()
        .map(|(fence, number)| format!("{}:{}", short(fence), token(*number)));
    each.collect::<Vec<_>>().join(" ")
}

fn token((epoch, sequence): Number) -> String {
    format!("{epoch}-{sequence}")
}

fn place(place: &Place) -> String {
    format!("{}/{}", short(&place.fence), place.key)
}

/// The last letter tells a history's fences apart.
fn short(fence: &str) -> &str {
    &fence[fence.len() - 1..]
}
