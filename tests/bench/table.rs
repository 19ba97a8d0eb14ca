//! The figures, as a table for people and as JSON.

use serde_json::Value;
use serde_json::json;

/// Figures by row and daemon.
#[derive(Debug)]
pub(crate) struct Table {
    names: Vec<String>,
    rows: Vec<Row>,
}

/// A row: what was measured, and each daemon's samples.
#[derive(Debug)]
struct Row {
    what: &'static str,
    unit: &'static str,
    samples: Vec<Vec<f64>>,
}

impl Table {
    /// An empty table of these daemons.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names, rows: Vec::new() }
    }

    /// Adds a sample of the daemon of that number.
    pub(crate) fn add(
        &mut self,
        what: &'static str,
        unit: &'static str,
        daemon: usize,
        sample: f64,
    ) {
        let known = self.rows.iter().position(|row| row.what == what);
        let place = known.unwrap_or_else(|| {
            let samples = vec![Vec::new(); self.names.len()];
            self.rows.push(Row { what, unit, samples });
            self.rows.len() - 1
        });
        self.rows[place].samples[daemon].push(sample);
    }

    /// Median, least and most of each row, and ratios to the first daemon.
    pub(crate) fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.len() + row.unit.len() + 2).max();
        let width = width.unwrap_or(0);
        let mut text = format!("{:width$}", "median (least to most)");
        for name in &self.names {
            text.push_str(&format!("  {name:>26}"));
        }
        for row in &self.rows {
            text.push_str(&format!("\n{:width$}", format!("{}, {}", row.what, row.unit)));
            let first = median(&row.samples[0]);
            for (number, samples) in row.samples.iter().enumerate() {
                text.push_str(&format!("  {:>26}", cell(samples, first.filter(|_| number > 0))));
            }
        }
        text
    }

    /// Everything, with all samples.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({ "daemons": self.names, "rows": rows })
    }

    fn row_json(&self, row: &Row) -> Value {
        let of = |(name, samples): (&String, &Vec<f64>)| {
            (name.clone(), json!({ "median": median(samples), "samples": samples }))
        };
        let daemons: serde_json::Map<_, _> = self.names.iter().zip(&row.samples).map(of).collect();
        json!({ "what": row.what, "unit": row.unit, "daemons": daemons })
    }
}

fn cell(samples: &[f64], first: Option<f64>) -> String {
    let Some(middle) = median(samples) else { return "-".to_owned() };
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let spread = if samples.len() > 1 {
        format!(" ({} to {})", short(least), short(most))
    } else {
        String::new()
    };
    let ratio = first.filter(|first| *first > 0.0).map(|first| format!(" x{:.2}", middle / first));
    format!("{}{spread}{}", short(middle), ratio.unwrap_or_default())
}

/// Three figures are enough: the machine does not repeat itself better.
fn short(figure: f64) -> String {
    if figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.2}")
    }
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) =
        (sorted.get(sorted.len().wrapping_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}
