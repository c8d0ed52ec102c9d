//! Prints which figures of a benchmark moved by more than 15 % against a file kept from before: `./dev bench --compare`.
//!
//! Both files hold what the benchmarks print with `--json`, a measure a line.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program that prints figures, or stops"
)]

use std::{collections::BTreeMap, fs};

use serde::Deserialize;

/// The share by which a figure may differ from one run to the next.
const NOISE: f64 = 0.15;

/// A measure of one run.
#[derive(Deserialize)]
struct Figure {
    measure: String,
    value: f64,
    unit: String,
}

impl Figure {
    /// Rates are better when they are higher; times, sizes and loads when they are lower.
    fn improves_upwards(&self) -> bool {
        self.unit.ends_with("/s") || self.unit.ends_with("/min")
    }
}

fn main() {
    let files: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let [before, now] = files.as_slice() else {
        println!("usage: compare BEFORE NOW");
        return;
    };
    let (before, now) = (read(before), read(now));
    let mut moved = 0;
    println!(
        "{:<32} {:>12} {:>12} {:>8}  unit",
        "measure", "before", "now", "change"
    );
    for (measure, figure) in &now {
        let Some(old) = before.get(measure) else {
            println!(
                "{measure:<32} {:>12} {:>12} {:>8}  {}",
                "-", figure.value, "new", figure.unit
            );
            continue;
        };
        // A difference of two times may be negative.
        let change = (figure.value - old.value) / old.value.abs();
        if change.abs() > NOISE {
            moved += 1;
            let verdict = if (change > 0.0) == figure.improves_upwards() {
                "better"
            } else {
                "WORSE"
            };
            let percent = format!("{:+.0} %", change * 100.0);
            println!(
                "{measure:<32} {:>12} {:>12} {percent:>8}  {}, {verdict}",
                old.value, figure.value, figure.unit
            );
        }
    }
    for measure in before.keys().filter(|measure| !now.contains_key(*measure)) {
        println!("{measure:<32} was not measured now");
    }
    println!(
        "{moved} of {} measures moved by more than {:.0} %",
        now.len(),
        NOISE * 100.0
    );
}

fn read(path: &str) -> BTreeMap<String, Figure> {
    let text = fs::read_to_string(path).expect("a file of figures can be read");
    let figures = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Figure>(line).ok());
    figures
        .map(|figure| (figure.measure.clone(), figure))
        .collect()
}
