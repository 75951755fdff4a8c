//! Rows of like counters, each with its labels and its parts in several workers, written family by family.

use crate::config::model::Listener;
use crate::control::Shared;
use crate::control::exposition::{Exposition, Kind};
use crate::metrics::{Counter, Gauge, Histogram, Worker};

use super::merged;

/// One line of each family: its labels, and the counters that are added up for it.
pub(super) struct Row<'a, T> {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) parts: Vec<&'a T>,
}

/// Rows with the same label names. `prefix` goes before the name of every family.
pub(super) struct Table<'a, T> {
    pub(super) prefix: &'static str,
    pub(super) rows: Vec<Row<'a, T>>,
}

/// A row for each listener of a kind. `part` is what a worker counts of the listener with this index.
pub(super) fn per_listener<'a, T>(
    shared: &'a Shared,
    prefix: &'static str,
    is_of_kind: impl Fn(&Listener) -> bool,
    part: impl Fn(&'a Worker, usize) -> &'a T,
) -> Table<'a, T> {
    let listeners = shared.config.listeners.iter().enumerate().filter(|(_, listener)| is_of_kind(listener));
    let row = |(index, listener): (usize, &Listener)| Row {
        labels: vec![("listener", listener.name.clone())],
        parts: shared.workers.iter().map(|worker| part(worker, index)).collect(),
    };
    Table { prefix, rows: listeners.map(row).collect() }
}

impl<T> Row<'_, T> {
    /// The row's value: the sum of its parts.
    pub(super) fn sum(&self, read: impl Fn(&T) -> u64) -> u64 {
        self.parts.iter().map(|part| read(part)).sum()
    }

    pub(super) fn labels(&self) -> Vec<(&str, &str)> {
        self.labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

impl<T> Table<'_, T> {
    /// Writes a family of counters.
    pub(super) fn counter(&self, out: &mut Exposition, name: &str, help: &str, read: impl Fn(&T) -> &Counter) {
        self.numbers(out, Kind::Counter, name, help, |part| read(part).value());
    }

    /// Writes a family of gauges.
    pub(super) fn gauge(&self, out: &mut Exposition, name: &str, help: &str, read: impl Fn(&T) -> &Gauge) {
        self.numbers(out, Kind::Gauge, name, help, |part| read(part).value());
    }

    /// Writes a family of counters or gauges whose value is not one counter.
    pub(super) fn numbers(&self, out: &mut Exposition, kind: Kind, name: &str, help: &str, read: impl Fn(&T) -> u64) {
        if self.rows.is_empty() {
            return;
        }
        let name = format!("{}{name}", self.prefix);
        let mut family = out.family(&name, kind, help);
        for row in &self.rows {
            family.sample(&row.labels(), row.sum(&read));
        }
    }

    /// Writes a family of histograms.
    pub(super) fn histogram(&self, out: &mut Exposition, name: &str, help: &str, read: impl Fn(&T) -> &Histogram) {
        if self.rows.is_empty() {
            return;
        }
        let name = format!("{}{name}", self.prefix);
        let mut family = out.histograms(&name, help);
        for row in &self.rows {
            family.sample(&row.labels(), &merged(row.parts.iter().map(|part| read(part))));
        }
    }

    /// Writes a family of counters by status class, as a further label `code`.
    pub(super) fn responses(&self, out: &mut Exposition, name: &str, help: &str, read: impl Fn(&T) -> &[Counter; 6]) {
        if self.rows.is_empty() {
            return;
        }
        let name = format!("{}{name}", self.prefix);
        let mut family = out.family(&name, Kind::Counter, help);
        for row in &self.rows {
            for (class, code) in super::CLASSES.iter().enumerate() {
                let mut labels = row.labels();
                labels.push(("code", code));
                family.sample(&labels, row.sum(|part| read(part)[class].value()));
            }
        }
    }
}
