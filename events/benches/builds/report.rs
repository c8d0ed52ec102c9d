//! The figures, as a table or as JSON lines.

use runtime::{Clock, SystemClock};
use serde_json::json;

use crate::vcs::Vcs;

pub struct Report {
    vcs: Vcs,
    json: bool,
}

/// A line of the table.
pub struct Row<'a> {
    pub repository: &'a str,
    pub measure: &'a str,
    pub base: Option<f64>,
    pub ours: f64,
    pub unit: &'a str,
    /// How many times better ours is.
    pub ratio: Option<f64>,
}

/// How long something took, and its steps, in seconds.
pub struct Times {
    pub total: f64,
    pub steps: Vec<(String, f64)>,
}

impl Report {
    pub fn new(vcs: Vcs, json: bool) -> Self {
        if !json {
            println!(
                "{:<4} {:<28} {:>9} {:>9} {:>7}  unit",
                vcs.name(),
                "measure",
                "original",
                "ours",
                "ratio"
            );
        }
        Self { vcs, json }
    }

    pub fn line(&self, row: &Row<'_>) {
        let Row {
            repository,
            measure,
            unit,
            ..
        } = row;
        if self.json {
            let measure = format!("{} {repository} {measure}", self.vcs.name());
            println!(
                "{}",
                json!({
                    "measure": measure, "value": round(row.ours), "unit": unit, "beside": row.base.map(round),
                })
            );
            return;
        }
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| round(value).to_string());
        let (base, ours, ratio) = (number(row.base), number(Some(row.ours)), number(row.ratio));
        println!("{repository:<4} {measure:<28} {base:>9} {ours:>9} {ratio:>7}  {unit}");
    }

    /// A figure of ours that the original has nothing beside.
    pub fn figure(&self, repository: &str, name: &str, value: f64, unit: &str) {
        self.line(&Row {
            repository,
            measure: name,
            base: None,
            ours: value,
            unit,
            ratio: None,
        });
    }

    /// A build's steps, below its line.
    pub fn steps(&self, side: &str, times: &Times) {
        if !self.json {
            let steps: Vec<String> = times
                .steps
                .iter()
                .map(|(name, seconds)| format!("{name} {}", round(*seconds)))
                .collect();
            println!("       {side}: {}", steps.join(", "));
        }
    }
}

impl Times {
    /// The median of the whole, and of each step.
    pub fn median(all: &[Self]) -> Self {
        let names = all
            .first()
            .map(|times| times.steps.iter().map(|(name, _)| name))
            .into_iter()
            .flatten();
        let step = |name: &String| {
            let each = all
                .iter()
                .flat_map(|times| times.steps.iter().filter(|(step, _)| step == name));
            (
                name.clone(),
                median(each.map(|(_, seconds)| *seconds).collect()),
            )
        };
        Self {
            total: median(all.iter().map(|times| times.total).collect()),
            steps: names.map(step).collect(),
        }
    }
}

pub fn since(begin: jiff::Timestamp) -> f64 {
    SystemClock.now().duration_since(begin).as_secs_f64()
}

/// Three digits that matter.
pub fn round(value: f64) -> f64 {
    match value {
        ..10.0 => (value * 1000.0).round() / 1000.0,
        ..1000.0 => (value * 10.0).round() / 10.0,
        _ => value.round(),
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
