//! What was asked of a splitter's servers, all data workers together.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::control::Shared;
use crate::control::shared::unix_ms;
use crate::metrics::{DigestBoard, DigestName, DigestRow, HistogramSnapshot};

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// What took the most time in all.
    #[default]
    Time,
    /// What came most often.
    Count,
    /// What failed most often.
    Errors,
}

/// The table of one splitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsView {
    /// Its name.
    pub splitter: String,
    /// When counting began.
    pub since_unix_ms: u64,
    /// Rows there are.
    pub rows_total: usize,
    /// The first ones.
    pub rows: Vec<DigestView>,
    /// What came when the table was full; `None`: it never was.
    pub other: Option<DigestView>,
}

/// Statements of one normal form, one database and one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestView {
    /// What it is called in the slow log.
    pub digest: String,
    /// The normal form.
    pub text: String,
    /// Selected database; empty: none.
    pub schema: String,
    /// Account.
    pub user: String,
    /// Statements.
    pub count: u64,
    /// Of these, ended in an error.
    pub errors: u64,
    /// Of these, sent to the primary.
    pub primary: u64,
    /// Of these, sent to a replica.
    pub replica: u64,
    /// Of these, a rule or a comment chose where to.
    pub chosen: u64,
    /// Rows sent to clients.
    pub rows_sent: u64,
    /// Rows changed.
    pub rows_affected: u64,
    /// Warnings left behind.
    pub warnings: u64,
    /// Time they took, together.
    pub sum_us: u64,
    /// The shortest one's.
    pub min_us: u64,
    /// The longest one's.
    pub max_us: u64,
    /// Half of them took less.
    pub p50_us: u64,
    /// 95 of 100 took less.
    pub p95_us: u64,
    /// 99 of 100 took less.
    pub p99_us: u64,
    /// When the first one ended.
    pub first_unix_ms: u64,
    /// When the last one ended.
    pub last_unix_ms: u64,
}

/// A table that begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Name of the splitter.
    pub splitter: String,
    /// Rows that are gone, of all data workers.
    pub rows: usize,
}

/// Rows of several workers as one.
#[derive(Default)]
struct Sum {
    view: DigestView,
    duration: HistogramSnapshot,
}

impl Sum {
    fn add(&mut self, row: &DigestRow) {
        let (view, count) = (&mut self.view, row.count.value());
        if count == 0 {
            return;
        }
        let is_first = view.count == 0;
        let least = |known: u64, new: u64| if is_first { new } else { known.min(new) };
        view.min_us = least(view.min_us, row.min_us.value());
        view.first_unix_ms = least(view.first_unix_ms, row.first_unix_ms.value());
        view.max_us = view.max_us.max(row.max_us.value());
        view.last_unix_ms = view.last_unix_ms.max(row.last_unix_ms.value());
        view.count += count;
        view.errors += row.errors.value();
        view.primary += row.primary.value();
        view.replica += row.replica.value();
        view.chosen += row.chosen.value();
        view.rows_sent += row.rows_sent.value();
        view.rows_affected += row.rows_affected.value();
        view.warnings += row.warnings.value();
        view.sum_us += row.sum_us.value();
        self.duration.merge(&row.duration.snapshot());
    }

    fn finish(self) -> DigestView {
        let quantile = |q: f64| self.duration.quantile(q).as_micros() as u64;
        let (p50_us, p95_us, p99_us) = (quantile(0.5), quantile(0.95), quantile(0.99));
        DigestView { p50_us, p95_us, p99_us, ..self.view }
    }
}

impl DigestsView {
    /// The first `limit` rows of the splitter of this name. Errors: there is none, for a person.
    pub fn new(shared: &Shared, splitter: &str, sort: Sort, limit: Option<usize>) -> Result<DigestsView, String> {
        let boards = boards(shared, splitter)?;
        let tables: Vec<_> = boards.iter().map(|board| board.current()).collect();
        let (mut sums, mut other): (HashMap<DigestName, Sum>, Sum) = (HashMap::new(), Sum::default());
        for table in &tables {
            table.rows().for_each(|row| sums.entry(row.name.clone()).or_default().add(row));
            other.add(&table.other);
        }
        let named = |(name, sum): (DigestName, Sum)| DigestView {
            digest: name.id.into(),
            text: name.text.into(),
            schema: name.schema.into(),
            user: name.user.into(),
            ..sum.finish()
        };
        let mut rows: Vec<DigestView> = sums.into_iter().map(named).filter(|row| row.count > 0).collect();
        let key = |row: &DigestView| match sort {
            Sort::Time => row.sum_us,
            Sort::Count => row.count,
            Sort::Errors => row.errors,
        };
        rows.sort_by(|a, b| {
            key(b).cmp(&key(a)).then_with(|| b.sum_us.cmp(&a.sum_us)).then_with(|| a.text.cmp(&b.text))
        });
        let rows_total = rows.len();
        rows.truncate(limit.unwrap_or(usize::MAX));
        Ok(DigestsView {
            splitter: splitter.into(),
            since_unix_ms: tables.iter().map(|table| table.since_unix_ms).min().unwrap_or(0),
            rows_total,
            rows,
            other: Some(other.finish()).filter(|other| other.count > 0),
        })
    }
}

/// All data workers begin anew. Errors: there is no such splitter, for a person.
pub fn reset(shared: &Shared, splitter: &str) -> Result<Forgotten, String> {
    let boards = boards(shared, splitter)?;
    let rows = boards.iter().map(|board| board.current().rows().count()).sum();
    boards.iter().for_each(|board| board.reset(unix_ms(SystemTime::now())));
    Ok(Forgotten { splitter: splitter.into(), rows })
}

/// The tables of the data workers.
fn boards<'a>(shared: &'a Shared, name: &str) -> Result<Vec<&'a DigestBoard>, String> {
    let splitters = &shared.config.splitters;
    let Some(at) = splitters.iter().position(|splitter| splitter.name == name) else {
        let names: Vec<&str> = splitters.iter().map(|splitter| &*splitter.name).collect();
        return Err(match names.is_empty() {
            true => format!("there is no splitter `{name}`: the config has no [mysql.NAME]"),
            false => format!("there is no splitter `{name}`: write {}", names.join(" or ")),
        });
    };
    if splitters[at].digests_max == 0 {
        return Err(format!("splitter `{name}` keeps no table of its statements: set `digests_max`"));
    }
    Ok(shared.workers.iter().map(|worker| &worker.splitters[at].digests).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::control::shared::tests::config;
    use crate::metrics::{DigestRoute, Executed};

    #[test]
    fn workers_are_added_up_and_a_reset_begins_anew() {
        let shared = Shared::new(Arc::new(config()), 2, 0);
        let name = &shared.config.splitters[0].name;
        let run = |worker: usize, text: &str, us: u64, is_error: bool| {
            let table = shared.workers[worker].splitters[0].digests.current();
            let name = DigestName { text: text.into(), ..DigestName::default() };
            let known = table.rows().position(|row| row.name == name);
            let at = known.unwrap_or_else(|| table.insert(|| name).unwrap());
            table.row(at).add(&Executed {
                route: DigestRoute::Primary,
                is_chosen: false,
                is_error,
                rows_sent: 1,
                rows_affected: 0,
                warnings: 0,
                duration: Duration::from_micros(us),
                at_unix_ms: us,
            });
        };
        for (worker, text, us, is_error) in
            [(0, "a", 10, false), (1, "a", 30, false), (0, "b", 20, true), (1, "c", 5, false), (1, "c", 5, false)]
        {
            run(worker, text, us, is_error);
        }
        let texts = |sort, limit| {
            let view = DigestsView::new(&shared, name, sort, limit).unwrap();
            view.rows.iter().map(|row| row.text.clone()).collect::<Vec<_>>().concat()
        };
        assert_eq!(
            (texts(Sort::Time, None), texts(Sort::Count, None), texts(Sort::Errors, Some(1))),
            ("abc".into(), "acb".into(), "b".into())
        );
        let view = DigestsView::new(&shared, name, Sort::Time, Some(1)).unwrap();
        let a = &view.rows[0];
        assert_eq!((a.count, a.sum_us, a.min_us, a.max_us, a.first_unix_ms, a.last_unix_ms), (2, 40, 10, 30, 10, 30));
        assert_eq!((view.rows_total, view.other), (3, None));
        assert_eq!(reset(&shared, name).unwrap().rows, 4);
        assert_eq!(DigestsView::new(&shared, name, Sort::Time, None).unwrap().rows_total, 0);
        assert!(DigestsView::new(&shared, "none", Sort::Time, None).unwrap_err().contains(name.as_str()));
    }
}
