//! The figures, as a table or as JSON lines.

pub struct Report {
    json: bool,
    /// Only these measures; all when it is empty.
    only: Vec<String>,
}

impl Report {
    /// Arguments: `--json`, and the names of the measures to take.
    pub fn new(arguments: &[String]) -> Self {
        let json = arguments.iter().any(|argument| argument == "--json");
        let only = arguments
            .iter()
            .filter(|argument| !argument.starts_with("--"))
            .cloned()
            .collect();
        if !json {
            println!(
                "{:<20} {:>12} {:>12} {:>7}  unit",
                "measure", "ours", "limit", "ratio"
            );
        }
        Self { json, only }
    }

    pub fn wants(&self, measure: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == measure)
    }

    /// `limit`: what a bare client reached in the same run.
    pub fn line(&self, measure: &str, value: f64, unit: &str, limit: Option<f64>) {
        if self.json {
            println!(
                "{}",
                serde_json::json!({
                    "measure": format!("bus {measure}"), "value": round(value), "unit": unit, "beside": limit.map(round),
                })
            );
            return;
        }
        let (limit, ratio) = match limit {
            Some(limit) => (
                format!("{:.0}", round(limit)),
                format!("{:.2}", value / limit),
            ),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{measure:<20} {:>12} {limit:>12} {ratio:>7}  {unit}",
            round(value)
        );
    }
}

fn round(value: f64) -> f64 {
    if value < 1.0 {
        (value * 100.0).round() / 100.0
    } else if value < 1000.0 {
        (value * 10.0).round() / 10.0
    } else {
        value.round()
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
