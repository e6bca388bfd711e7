//! Registration of metrics, with a catalogue of all of them for documentation.

use prometheus_client::registry::{Metric, Registry, Unit};

/// The description of a metric family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// Name of the metric family, with the unit. Samples of counters add `_total`.
    pub name: String,
    /// Type of the metric: `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of the labels of its samples; empty: no labels.
    pub labels: &'static [&'static str],
    /// Help text, which says what the metric measures.
    pub help: &'static str,
}

/// Name without the unit, kind, unit, label names.
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
