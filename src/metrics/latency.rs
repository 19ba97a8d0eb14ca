//! How long operations take: quantiles of the last ones, and sums over all.
//!
//! The library has no summary, so its three series are views of the same numbers.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::MetricType;

/// Of how many observations of each operation the quantiles are.
const RECENT: usize = 512;
/// The quantiles that are shown.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Observations by operation.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    by_operation: Mutex<BTreeMap<String, Series>>,
}

#[derive(Debug, Default)]
struct Series {
    recent: VecDeque<f64>,
    sum: f64,
    count: u64,
}

/// One of the series that a summary consists of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Quantiles,
    Sum,
    Count,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quantiles => "operations_latency_seconds_total",
            Self::Sum => "operations_latency_seconds_total_sum",
            Self::Count => "operations_latency_seconds_total_count",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Self::Quantiles => "How long the last requests of the CRI took, by operation",
            Self::Sum => "How long all requests of the CRI took together, by operation",
            Self::Count => "How many requests of the CRI are in the sum, by operation",
        }
    }
}

/// One part as a metric of its own.
#[derive(Debug)]
pub(super) struct View {
    of: Arc<Latencies>,
    part: Part,
}

impl Latencies {
    pub(super) fn observe(&self, operation: &str, took: Duration) {
        let mut all = self.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.entry(operation.to_owned()).or_default();
        let seconds = took.as_secs_f64();
        series.sum += seconds;
        series.count += 1;
        if series.recent.len() == RECENT {
            series.recent.pop_front();
        }
        series.recent.push_back(seconds);
    }

    pub(super) fn view(self: &Arc<Self>, part: Part) -> View {
        View { of: Arc::clone(self), part }
    }
}

impl Series {
    /// The smallest observation that so many are not above.
    fn quantile(&self, quantile: f64) -> f64 {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let part = |rank: usize| {
            let (rank, all) = (u32::try_from(rank), u32::try_from(sorted.len()));
            f64::from(rank.unwrap_or(u32::MAX)) / f64::from(all.unwrap_or(u32::MAX))
        };
        let found = sorted.iter().enumerate().find(|(index, _)| part(index + 1) >= quantile);
        found.map_or(0.0, |(_, seconds)| *seconds)
    }
}

impl EncodeMetric for View {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.of.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        for (operation, series) in &*all {
            let label = ("operation", operation.as_str());
            match self.part {
                Part::Sum => encoder.encode_family(&[label])?.encode_gauge(&series.sum)?,
                Part::Count => {
                    let count = i64::try_from(series.count).unwrap_or(i64::MAX);
                    encoder.encode_family(&[label])?.encode_gauge(&count)?;
                }
                Part::Quantiles => {
                    for quantile in QUANTILES {
                        let text = quantile.to_string();
                        let labels = [label, ("quantile", text.as_str())];
                        let value = series.quantile(quantile);
                        encoder.encode_family(&labels)?.encode_gauge(&value)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
