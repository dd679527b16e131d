//! The summary, and where it is kept.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use crate::{
    plan::{Fault, LockService},
    round::Tally,
    sabotage::Found,
};

const BEGIN: &str = "<!-- make chaos writes from here -->";
const END: &str = "<!-- to here -->";

#[derive(Default)]
pub struct Table(BTreeMap<(LockService, Fault), Tally>, Vec<Found>);

impl Table {
    pub fn add(&mut self, service: LockService, fault: Fault, tally: &Tally) {
        self.0.entry((service, fault)).or_default().add(tally);
    }

    pub fn found(&mut self, found: Found) {
        self.1.push(found);
    }

    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.0.values().for_each(|tally| total.add(tally));
        total
    }

    /// Where the control lost nothing, so that whether the fault bites is not known.
    pub fn harmless(&self) -> Vec<String> {
        let harmless = self.0.iter().filter(|(_, tally)| tally.lost == 0);
        harmless
            .map(|((service, fault), _)| format!("{} under {}", service.name(), fault.name()))
            .collect()
    }

    fn of_services(&self) -> BTreeMap<LockService, Tally> {
        let mut services: BTreeMap<LockService, Tally> = BTreeMap::new();
        for ((service, _), tally) in &self.0 {
            services.entry(*service).or_default().add(tally);
        }
        services
    }

    /// The lock services with which the control lost nothing, although it ran in `rounds` or more.
    pub fn toothless(&self, rounds: usize) -> Vec<&'static str> {
        let services = self.of_services().into_iter();
        let toothless = services.filter(|(_, tally)| tally.rounds >= rounds && tally.lost == 0);
        toothless.map(|(service, _)| service.name()).collect()
    }

    /// How many combinations of lock service and fault there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In Markdown.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "| lock service | fault | histories | operations | writes done | refused | unknown | violations | control: histories | that lost | updates lost |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for ((service, fault), tally) in &self.0 {
            line(&mut text, service.name(), fault.name(), tally);
        }
        line(&mut text, "all", "", &self.total());
        text.push_str("\n| with the fence off | rounds | that lost updates | updates lost |\n| --- | ---: | ---: | ---: |\n");
        for (service, tally) in self.of_services() {
            let (service, rounds, that_lost) = (service.name(), tally.rounds, tally.rounds_that_lost);
            writeln!(text, "| {service} | {rounds} | {that_lost} | {} |", tally.lost).unwrap();
        }
        if !self.1.is_empty() {
            text.push_str("\n| taken out of the guard | found after | operations | as violations of |\n| --- | ---: | ---: | --- |\n");
        }
        for found in &self.1 {
            let broken: Vec<String> = found
                .broken
                .iter()
                .map(|promise| format!("{promise:?}"))
                .collect();
            let (histories, operations) = (found.tally.histories, found.tally.operations);
            let (what, broken) = (found.sabotage.explained(), broken.join(", "));
            writeln!(
                text,
                "| {what} | {histories} histories | {operations} | {broken} |"
            )
            .unwrap();
        }
        text
    }

    /// In one sentence.
    pub fn said(&self) -> String {
        let total = self.total();
        let found = match total.violations {
            0 => format!("No violation found in {} histories", total.histories),
            some => format!("{some} VIOLATIONS found in {} histories", total.histories),
        };
        format!(
            "{found} with {} operations. With the fence off, {} of {} histories lost {} acknowledged updates, some under {} \
             of {} combinations of lock service and fault.",
            total.operations,
            total.controls_that_lost,
            total.controls,
            total.lost,
            self.count() - self.harmless().len(),
            self.count(),
        )
    }

    /// Between the two marks of a page.
    pub fn write_into(&self, page: &Path, about: &str) {
        let text = std::fs::read_to_string(page).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the mark where the table begins");
        let (_, after) = rest.split_once(END).expect("the mark where the table ends");
        let said = format!(
            "{about}\n\n**{}**\n\n{}\n{}",
            self.said(),
            self.render(),
            faults()
        );
        std::fs::write(page, format!("{before}{BEGIN}\n\n{said}\n{END}{after}")).unwrap();
    }
}

fn line(text: &mut String, service: &str, fault: &str, tally: &Tally) {
    writeln!(
        text,
        "| {service} | {fault} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        tally.histories,
        tally.operations,
        tally.acknowledged,
        tally.refused,
        tally.unknown,
        tally.violations,
        tally.controls,
        tally.controls_that_lost,
        tally.lost
    )
    .unwrap();
}

fn faults() -> String {
    let mut text = String::from("| fault | what it is |\n| --- | --- |\n");
    for fault in Fault::ALL {
        writeln!(text, "| {} | {} |", fault.name(), fault.explained()).unwrap();
    }
    text
}
