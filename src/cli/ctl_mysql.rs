//! `one-server ctl mysql`: what was asked of a splitter's servers.

use super::args::{CtlMysql, DigestSort};
use super::ctl::{line, moment, table};
use crate::control::ctl::Request;
use crate::control::ctl::digests::{DigestView, DigestsView, Forgotten, Sort};

pub(super) fn request(what: &CtlMysql) -> Request {
    match what {
        CtlMysql::Digests { name, sort, limit } => Request::MysqlDigests {
            splitter: name.clone(),
            sort: match sort {
                DigestSort::Time => Sort::Time,
                DigestSort::Count => Sort::Count,
                DigestSort::Errors => Sort::Errors,
            },
            limit: Some(*limit),
        },
        CtlMysql::ResetDigests { name } => Request::ResetMysqlDigests { splitter: name.clone() },
    }
}

pub(super) fn forgotten(forgotten: &Forgotten) -> String {
    let Forgotten { splitter, rows } = forgotten;
    format!("{splitter} counts its statements anew, {rows} rows are gone\n")
}

/// A table, and below it each normal form in full.
pub(super) fn digests(view: &DigestsView) -> String {
    let mut out = String::new();
    let since = moment(view.since_unix_ms);
    line(&mut out, format_args!("{}: {} of {} rows, since {since}", view.splitter, view.rows.len(), view.rows_total));
    let head =
        ["digest", "count", "errors", "total", "average", "p95", "max", "primary", "replica", "sent", "affected"];
    let head = head.map(String::from).to_vec();
    let rows = view.rows.iter().chain(&view.other).map(row);
    table(&mut out, "statements", std::iter::once(head).chain(rows));
    for row in &view.rows {
        let schema = if row.schema.is_empty() { "-" } else { &row.schema };
        line(&mut out, format_args!("\n{} {}@{schema}\n  {}", row.digest, row.user, row.text));
    }
    out
}

fn row(row: &DigestView) -> Vec<String> {
    let name = if row.digest.is_empty() { "(others)".into() } else { row.digest.clone() };
    let average_us = row.sum_us.checked_div(row.count).unwrap_or(0);
    let mut words = vec![name, row.count.to_string(), row.errors.to_string()];
    words.extend([row.sum_us, average_us, row.p95_us, row.max_us].map(spell));
    words.extend([row.primary, row.replica, row.rows_sent, row.rows_affected].map(|number| number.to_string()));
    words
}

/// Microseconds in the unit that has three digits or less.
fn spell(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_shown_in_columns_and_in_full() {
        let row = DigestView {
            digest: "00ff".into(),
            text: "SELECT ?".into(),
            user: "app".into(),
            count: 4,
            sum_us: 5_000,
            max_us: 2_500_000,
            replica: 4,
            ..DigestView::default()
        };
        let other = DigestView { count: 1, ..DigestView::default() };
        let view =
            DigestsView { splitter: "db".into(), since_unix_ms: 0, rows_total: 9, rows: vec![row], other: Some(other) };
        let text = digests(&view);
        assert!(text.starts_with("db: 1 of 9 rows, since "), "{text}");
        assert!(text.contains("\n  00ff      4      0       5.0ms  1.2ms    0us  2.5s  0        4"), "{text}");
        assert!(text.contains("\n  (others)  1"), "{text}");
        assert!(text.ends_with("\n00ff app@-\n  SELECT ?\n"), "{text}");
    }
}
