//! The table: what was measured, against what, what it must be, and whether it is.

use std::fmt::Write;

use crate::setting::Settings;

/// Which way is better.
#[derive(Clone, Copy, PartialEq)]
pub enum Better {
    Higher,
    Lower,
}

/// A line of the table.
pub struct Row {
    pub what: String,
    pub against: String,
    pub must: f64,
    pub aim: f64,
    pub better: Better,
    /// `x`, or what else the numbers are.
    pub unit: &'static str,
    /// One of each round.
    pub ratios: Vec<f64>,
    /// The absolute figures behind it, for people.
    pub figures: String,
}

impl Row {
    fn reaches(&self, goal: f64) -> bool {
        match self.better {
            Better::Higher => median(&self.ratios) >= goal,
            Better::Lower => median(&self.ratios) <= goal,
        }
    }

    fn verdict(&self) -> &'static str {
        if self.reaches(self.aim) {
            "aim reached"
        } else if self.reaches(self.must) {
            "holds"
        } else {
            "**missed**"
        }
    }

    fn is_missed(&self) -> bool {
        !self.reaches(self.must)
    }
}

/// Prints everything that was measured, and ends with status 1 where a row is missed.
pub fn report(machine: &str, settings: &Settings, rows: &[Row], beside: &[(String, String)]) {
    println!(
        "fencegate {}; {machine}; {} rounds of {} s each\n",
        env!("CARGO_PKG_VERSION"),
        settings.rounds,
        settings.time.as_secs()
    );
    if settings.short {
        println!("**Too short to be quoted.**\n");
    }
    println!("{}", print(rows, beside));
    if rows.iter().any(Row::is_missed) {
        println!("A row is missed.");
        std::process::exit(1);
    }
}

/// As Markdown.
fn print(rows: &[Row], beside: &[(String, String)]) -> String {
    let mut text = String::new();
    if !rows.is_empty() {
        text += "| what | against | measured (lowest to highest round) | must | aim | verdict | figures |\n";
        text += "| --- | --- | --- | --- | --- | --- | --- |\n";
    }
    for row in rows {
        let (least, most) = row
            .ratios
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), ratio| {
                (least.min(*ratio), most.max(*ratio))
            });
        writeln!(
            text,
            "| {} | {} | **{:.2} {unit}** ({least:.2} to {most:.2}) | {} {unit} | {} {unit} | {} | {} |",
            row.what,
            row.against,
            median(&row.ratios),
            row.must,
            row.aim,
            row.verdict(),
            row.figures,
            unit = row.unit,
        )
        .expect("a string takes it");
    }
    if !beside.is_empty() {
        text += "\n| beside | |\n| --- | --- |\n";
    }
    for (what, figure) in beside {
        writeln!(text, "| {what} | {figure} |").expect("a string takes it");
    }
    text
}

pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// `12,345`.
pub fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
