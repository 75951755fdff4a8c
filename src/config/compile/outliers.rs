//! `outliers = { … }` of an upstream: what its live traffic has to show of a server before it is ejected.

use std::time::Duration;

use toml_edit::Item;

use crate::config::key::Table;
use crate::config::model::{FailureKinds, OutlierRules};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section, type_name};

/// Longest ejection where the file says nothing and its first one is not longer; Envoy's.
const EJECTION_MAX: Duration = Duration::from_secs(300);

/// The rules of an upstream; `None`: nothing is ejected.
pub(super) fn compile(upstream: &Section<'_>) -> Option<OutlierRules> {
    let item = upstream.item("outliers")?;
    match item.as_bool() {
        Some(true) => Some(settings(&Section::absent(upstream.cx, Table::Outliers))),
        Some(false) => None,
        None if item.is_table_like() => {
            let title = format!("outliers of {}", upstream.title);
            Section::from_item(upstream.cx, Table::Outliers, title, item, None).map(|section| settings(&section))
        }
        None => {
            let forms = "write true, false, or a table such as { consecutive = 5, ejection_time = \"30s\" }";
            upstream.bad_value("outliers", format!("it is {}: {forms}", type_name(item)));
            None
        }
    }
}

fn settings(section: &Section<'_>) -> OutlierRules {
    let kinds: Vec<Placed<&'static str>> = section.list("failures");
    let names: Vec<&str> = kinds.iter().map(|kind| kind.value).collect();
    let ejection_time: Duration = section.get("ejection_time");
    let rules = OutlierRules {
        failures: FailureKinds::of(&names),
        consecutive: section.get("consecutive"),
        window: section.get("window"),
        error_percent: section.get("error_rate"),
        requests_min: section.get("requests_min"),
        latency_factor: section.get("latency_factor"),
        latency_percentile: section.get("latency_percentile"),
        latency_min: section.get("latency_min"),
        ejection_time,
        ejection_max: section.find("ejection_max").unwrap_or(ejection_time.max(EJECTION_MAX)),
        max_ejected_percent: section.get("max_ejected"),
    };
    report(section, &rules, names.is_empty());
    rules
}

fn report(section: &Section<'_>, rules: &OutlierRules, has_no_failures: bool) {
    if section.item("failures").and_then(Item::as_array).is_some_and(|array| array.is_empty()) {
        section.bad_value("failures", "it is empty: name at least one kind");
    }
    if rules.latency_factor == 1 {
        section.bad_value("latency_factor", "half of the servers are slower than the median: write 2 or more, or 0");
    }
    if rules.ejection_max < rules.ejection_time {
        section.bad_value("ejection_max", "it is shorter than `ejection_time`");
    }
    let looks = rules.consecutive > 0 || rules.error_percent > 0 || rules.latency_factor > 0;
    if !looks && !has_no_failures {
        let title = format!("{} eject nothing", section.title);
        let label = "set one of `consecutive`, `error_rate` and `latency_factor`, or write outliers = false";
        section.cx.mistake(Problem::new(title, section.span.clone(), label));
    }
}
