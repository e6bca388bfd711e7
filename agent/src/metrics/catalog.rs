//! Registers metrics and remembers what they are, also where nothing was counted yet.

use prometheus_client::registry::{Metric, Registry, Unit};

/// What a metric is, for documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// The name of its family, with the unit; samples of counters have `_total` behind it.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Name without unit, kind, unit, labels.
type Shape = (&'static str, &'static str, Option<Unit>, &'static [&'static str]);

#[derive(Debug, Default)]
pub(super) struct Catalog {
    registry: Registry,
    rows: Vec<MetricInfo>,
}

impl Catalog {
    pub(super) fn add<M: Metric + Clone>(&mut self, shape: Shape, help: &'static str, metric: M) -> M {
        let (name, kind, unit, labels) = shape;
        let full = unit.as_ref().map_or(name.to_owned(), |unit| format!("{name}_{}", unit.as_str()));
        self.rows.push(MetricInfo { name: full, kind, labels, help });
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, metric.clone()),
            None => self.registry.register(name, help, metric.clone()),
        }
        metric
    }

    pub(super) fn finish(self) -> (Registry, Vec<MetricInfo>) {
        (self.registry, self.rows)
    }
}
