//! What triggers, views and column defaults of the servers hide ([`super::sql::hidden`]): read from the primary's
//! `information_schema` when it begins to lead, when a definition has gone through here, and when the primary has counted one
//! that went another way. Runs on the control thread; the data path reads the result.
//!
//! What the account may not see is not known: it is told so.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::probe::{Probe, ProbeError, Table};
use super::shared::{Health, Shared};
use super::sql::hidden::{Definition, Hidden, Of, Variables};
use super::sql::{Flavour, Mode};

/// Definitions of a kind that are read at most ...
const DEFINITIONS_MAX: usize = 50_000;
/// ... and their bytes together.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// One reading takes no longer.
const READING_TIMEOUT: Duration = Duration::from_secs(30);
/// After one that has failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Where the primary does not count definitions, or nobody looks at it.
const EVERY: Duration = Duration::from_secs(60);
/// Readings take a tenth of the time at most: a server with many tables opens each of them.
const PAUSE_FACTOR: u32 = 9;
/// At the start commands wait so long for the first reading.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(3);
/// Whoever has defined something waits so long for the reading that sees it.
pub(super) const DEFINITION_WAIT: Duration = Duration::from_secs(2);

/// What the primary counts of statements that define or remove what may hide something.
pub(super) const DEFINITIONS: &[u8] =
    b"SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_alter_table', 'Com_create_function', \
'Com_create_package', 'Com_create_package_body', 'Com_create_procedure', 'Com_create_table', 'Com_create_trigger', \
'Com_create_udf', 'Com_create_view', 'Com_drop_db', 'Com_drop_function', 'Com_drop_package', 'Com_drop_procedure', \
'Com_drop_table', 'Com_drop_trigger', 'Com_drop_view', 'Com_rename_table')";

const OF_USERS: &str = "NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')";

/// What is known, and what is wanted.
#[derive(Debug)]
pub struct Survey {
    found: ArcSwap<Hidden>,
    /// Goes up with each change of `found`.
    edition: AtomicU64,
    /// Readings asked for.
    wanted: AtomicU64,
    /// All of those up to this one have been answered.
    seen: AtomicU64,
    /// What the primary counted when it was last looked at.
    counted: AtomicU64,
    /// A session has asked, which waits.
    asked: Notify,
    /// The primary has counted something.
    counts: Notify,
    /// Why not everything is known.
    trouble: ArcSwapOption<String>,
    /// When the first reading could have begun.
    since: OnceLock<Instant>,
}

/// Before anything is read, everything may hide something.
impl Default for Survey {
    fn default() -> Survey {
        Survey {
            found: ArcSwap::from_pointee(Hidden::unsure()),
            edition: AtomicU64::new(1),
            wanted: AtomicU64::default(),
            seen: AtomicU64::default(),
            counted: AtomicU64::default(),
            asked: Notify::default(),
            counts: Notify::default(),
            trouble: ArcSwapOption::default(),
            since: OnceLock::default(),
        }
    }
}

impl Survey {
    /// What tables and views hide.
    pub(super) fn found(&self) -> Arc<Hidden> {
        self.found.load_full()
    }

    /// A primary is there to be asked, or is awaited.
    pub(super) fn begin(&self) {
        self.since.get_or_init(Instant::now);
    }

    /// Changes with what was found.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Acquire)
    }

    /// Asks for a reading that begins from now on; done once [`Survey::has_seen`] says so.
    pub(super) fn ask(&self) -> u64 {
        let number = self.wanted.fetch_add(1, Release) + 1;
        self.asked.notify_one();
        number
    }

    /// A reading begins: the number of the last one asked for that it answers. The first is one that nobody need ask for.
    fn begin_reading(&self) -> u64 {
        self.begin();
        self.wanted.fetch_max(1, AcqRel).max(1)
    }

    fn end_reading(&self, number: u64) {
        self.seen.store(number, Release);
    }

    /// Whether the reading that was asked for is over.
    pub(super) fn has_seen(&self, number: u64) -> bool {
        self.seen.load(Acquire) >= number
    }

    /// Whether a command is better not judged yet: nothing was ever read, and that will not take long.
    pub(super) fn is_imminent(&self) -> bool {
        self.seen.load(Relaxed) == 0 && self.since.get().is_some_and(|since| since.elapsed() < FIRST_WAIT)
    }

    /// Why not everything is known, and how many names hide something.
    pub fn told(&self) -> (usize, Option<String>) {
        (self.found.load().len(), self.trouble.load().as_deref().cloned())
    }

    /// Monitor only: the primary has counted so many definitions, of this server. Asks for a reading if there are others.
    pub(super) fn on_counted(&self, counted: u64) {
        if self.counted.swap(counted, Relaxed) != counted {
            self.wanted.fetch_add(1, Release);
            self.counts.notify_one();
        }
    }

    fn publish(&self, hidden: Hidden) {
        if **self.found.load() != hidden {
            self.found.store(Arc::new(hidden));
            self.edition.fetch_add(1, Release);
        }
    }
}

/// A number that differs whenever the primary, or what it has counted, is another one.
pub(super) fn counted(server: usize, told: &Table) -> u64 {
    let value = |row: usize| told.value(row, 1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let sum: u64 = (0..told.rows.len()).map(value).sum();
    (server as u64 + 1) << 48 | sum & ((1 << 48) - 1)
}

/// Why a reading is of no use.
#[derive(Debug)]
enum Trouble {
    /// There are more definitions than are read.
    TooMany,
    /// The server answers everybody else, but has not told all of them in so long a time.
    TooSlow(Duration),
    /// The server does not want to say.
    Refused(ProbeError),
    /// It could not be asked.
    OutOfReach(ProbeError),
}

impl From<ProbeError> for Trouble {
    fn from(error: ProbeError) -> Trouble {
        match error {
            ProbeError::Refused(..) => Trouble::Refused(error),
            error => Trouble::OutOfReach(error),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::TooMany => {
                write!(f, "there are more than {DEFINITIONS_MAX} triggers, views or routines, or 16 MiB of them")
            }
            Trouble::TooSlow(limit) => {
                write!(f, "the server has not told all triggers, views and routines in {} s", limit.as_secs())
            }
            Trouble::Refused(error) | Trouble::OutOfReach(error) => error.fmt(f),
        }
    }
}

/// Reads whenever somebody asks, as long as it is polled.
pub(super) async fn run(shared: &Shared) {
    let survey = &shared.survey;
    loop {
        let primary = shared
            .lead()
            .primary
            .filter(|server| !matches!(shared.server(*server).health(), Health::Down | Health::Unknown));
        let Some(primary) = primary else {
            sleep(shared.look_interval().min(Duration::from_millis(100))).await;
            continue;
        };
        let (wanted, begun) = (survey.begin_reading(), Instant::now());
        let pause = match read_in_time(shared, primary, READING_TIMEOUT).await {
            Ok((hidden, unseen)) => {
                tell_found(shared, primary, &hidden, unseen);
                survey.publish(hidden);
                begun.elapsed() * PAUSE_FACTOR
            }
            // Nothing that was known before is any less true while a server is only out of reach.
            Err(trouble @ Trouble::OutOfReach(_)) => {
                tracing::debug!(splitter = %shared.config().name, error = %trouble, "definitions were not read");
                if matches!(trouble, Trouble::OutOfReach(ProbeError::Refused(..))) && !survey.has_seen(1) {
                    tell_trouble(shared, primary, &trouble);
                }
                sleep(AGAIN_AFTER).await;
                continue;
            }
            Err(trouble) => {
                tell_trouble(shared, primary, &trouble);
                survey.publish(survey.found().in_doubt());
                EVERY
            }
        };
        survey.end_reading(wanted);
        // Whoever has defined something waits for it.
        tokio::select! {
            () = survey.asked.notified() => continue,
            () = sleep(pause) => {}
        }
        if survey.wanted.load(Acquire) == wanted {
            tokio::select! {
                () = survey.asked.notified() => {}
                () = survey.counts.notified() => {}
                () = sleep(EVERY) => {}
            }
        }
    }
}

fn tell_found(shared: &Shared, server: usize, hidden: &Hidden, unseen: Option<String>) {
    let (config, address) = (shared.config(), shared.address(server));
    let splitter = &config.name;
    let names = hidden.len();
    if **shared.survey.found.load() != *hidden && names != 0 {
        tracing::info!(splitter, server = %address, names,
            "triggers, views or column defaults do what a statement does not show (locks, user variables, sequences): sessions that \
             use these are pinned");
    }
    if unseen.is_some() && shared.survey.trouble.load().as_deref() != unseen.as_ref() {
        tracing::warn!(splitter, server = %address, user = %config.user,
            "the account may not see all triggers and views, so that locks and sequences which they use are not known of: GRANT \
             TRIGGER, SHOW VIEW ON *.*");
    }
    shared.survey.trouble.store(unseen.map(Arc::new));
}

fn tell_trouble(shared: &Shared, server: usize, trouble: &Trouble) {
    let (config, address, text) = (shared.config(), shared.address(server), trouble.to_string());
    if shared.survey.trouble.load().as_deref() != Some(&text) {
        tracing::error!(splitter = %config.name, server = %address, error = %text,
            "what triggers, views and column defaults hide was not read: every session that writes is pinned until it is");
    }
    shared.survey.trouble.store(Some(Arc::new(text)));
}

async fn read_in_time(shared: &Shared, server: usize, limit: Duration) -> Result<(Hidden, Option<String>), Trouble> {
    let late = || match shared.server(server).health() {
        Health::Down | Health::Unknown => Trouble::OutOfReach(ProbeError::Timeout),
        Health::ReadOnly | Health::Writable => Trouble::TooSlow(limit),
    };
    timeout(limit, read(shared, server)).await.unwrap_or_else(|_| Err(late()))
}

/// What is hidden; with what the account may not see.
async fn read(shared: &Shared, server: usize) -> Result<(Hidden, Option<String>), Trouble> {
    let (mut probe, greeting) = Probe::open(shared, server).await.map_err(Trouble::OutOfReach)?;
    // So that texts come in the same quotes whatever the server's settings.
    probe.query(b"SET sql_mode = ''").await?;
    let unseen = unseen(&probe.query(b"SHOW GRANTS").await?);
    let mut all = Vec::new();
    let views =
        format!("SELECT TABLE_NAME, VIEW_DEFINITION, '' FROM information_schema.VIEWS WHERE TABLE_SCHEMA {OF_USERS}");
    collect(&mut probe, &views, Of::View, &mut all).await?;
    let triggers = format!(
        "SELECT EVENT_OBJECT_TABLE, ACTION_STATEMENT, SQL_MODE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA {OF_USERS}"
    );
    collect(&mut probe, &triggers, Of::Table, &mut all).await?;
    if !all.is_empty() {
        let routines = format!(
            "SELECT ROUTINE_NAME, ROUTINE_DEFINITION, SQL_MODE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA {OF_USERS}"
        );
        collect(&mut probe, &routines, Of::Routine, &mut all).await?;
    }
    if greeting.is_mariadb() {
        let defaults = format!(
            "SELECT TABLE_NAME, COLUMN_DEFAULT, '' FROM information_schema.COLUMNS WHERE TABLE_SCHEMA {OF_USERS} \
             AND (COLUMN_DEFAULT LIKE '%nextval(%' OR COLUMN_DEFAULT LIKE '%:=%')"
        );
        collect(&mut probe, &defaults, Of::Table, &mut all).await?;
    }
    let flavour = Flavour::of(&greeting.version, greeting.is_mariadb());
    all.iter_mut().for_each(|definition| definition.mode.flavour = flavour);
    let variables = if all.is_empty() { Variables::default() } else { variables(&mut probe).await? };
    let hidden = Hidden::new(&all, &variables);
    Ok((if unseen.is_some() { hidden.partial() } else { hidden }, unseen))
}

/// Names of what a session can set.
async fn variables(probe: &mut Probe) -> Result<Variables, Trouble> {
    let told = probe.query_up_to(b"SHOW SESSION VARIABLES", ANSWER_BYTES_MAX).await?;
    let name = |row: usize| told.value(row, 0).map(|name| name.to_ascii_lowercase().into_bytes().into());
    Ok((0..told.rows.len()).filter_map(name).collect())
}

async fn collect(probe: &mut Probe, sql: &str, of: Of, all: &mut Vec<Definition>) -> Result<(), Trouble> {
    let sql = format!("{sql} LIMIT {}", DEFINITIONS_MAX + 1);
    let told = match probe.query_up_to(sql.as_bytes(), ANSWER_BYTES_MAX).await {
        Err(ProbeError::Protocol(super::protocol::ProtocolError::TooLarge(_))) => return Err(Trouble::TooMany),
        told => told?,
    };
    if told.rows.len() > DEFINITIONS_MAX {
        return Err(Trouble::TooMany);
    }
    all.extend((0..told.rows.len()).filter_map(|row| definition(of, &told, row)));
    Ok(())
}

fn definition(of: Of, told: &Table, row: usize) -> Option<Definition> {
    let text = told.value(row, 1).filter(|text| !text.is_empty());
    // The account lacks SHOW VIEW, which is told of.
    if of == Of::View && text.is_none() {
        return None;
    }
    let has = |flag: &str| told.value(row, 2).unwrap_or_default().split(',').any(|part| part == flag);
    let mode = Mode {
        ansi_quotes: has("ANSI_QUOTES"),
        no_backslash_escapes: has("NO_BACKSLASH_ESCAPES"),
        ignore_space: has("IGNORE_SPACE"),
        oracle: has("ORACLE"),
        ..Mode::default()
    };
    Some(Definition { of, name: told.value(row, 0)?.to_owned(), text: text.map(str::to_owned), mode })
}

/// What the account may not see of all databases, as its grants say.
fn unseen(grants: &Table) -> Option<String> {
    let has = |right: &str| {
        (0..grants.rows.len()).any(|row| {
            let rights =
                grants.value(row, 0).and_then(|grant| grant.split_once(" ON *.*")).map_or("", |(rights, _)| rights);
            rights.contains("ALL PRIVILEGES") || rights.contains(right)
        })
    };
    let missing: Vec<&str> = ["TRIGGER", "SHOW VIEW"].into_iter().filter(|right| !has(right)).collect();
    (!missing.is_empty()).then(|| format!("the account lacks {} on *.*", missing.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[Option<&str>]]) -> Table {
        let row = |row: &&[Option<&str>]| row.iter().map(|value| value.map(str::to_owned)).collect();
        Table { columns: Vec::new(), rows: rows.iter().map(row).collect() }
    }

    #[test]
    fn an_account_without_the_rights_does_not_see_everything() {
        let check = |grants: &[&str], expect: Option<&str>| {
            let rows: Vec<Vec<Option<&str>>> = grants.iter().map(|grant| vec![Some(*grant)]).collect();
            let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| &row[..]).collect();
            assert_eq!(unseen(&table(&rows)).as_deref(), expect, "{grants:?}");
        };
        check(&["GRANT ALL PRIVILEGES ON *.* TO `a`@`%`"], None);
        check(&["GRANT SELECT, TRIGGER ON *.* TO `a`@`%`", "GRANT SHOW VIEW ON *.* TO `a`@`%`"], None);
        check(&["GRANT SHOW VIEW ON *.* TO `a`@`%`"], Some("the account lacks TRIGGER on *.*"));
        let of_database = ["GRANT USAGE ON *.* TO `a`@`%`", "GRANT ALL PRIVILEGES ON `d`.* TO `a`@`%`"];
        check(&of_database, Some("the account lacks TRIGGER and SHOW VIEW on *.*"));
    }

    #[test]
    fn another_count_or_another_primary_is_seen() {
        let told = |count: &str| table(&[&[Some("Com_create_view"), Some(count)], &[Some("Com_drop_view"), Some("2")]]);
        assert_eq!(counted(0, &told("3")), counted(0, &told("3")));
        assert_ne!(counted(0, &told("3")), counted(0, &told("4")));
        assert_ne!(counted(0, &told("3")), counted(1, &told("3")));
        let survey = Survey::default();
        for (count, asked) in [(5, 1), (5, 1), (6, 2)] {
            survey.on_counted(count);
            assert_eq!(survey.wanted.load(Relaxed), asked);
        }
        assert!(survey.has_seen(0) && !survey.has_seen(2));
    }

    #[test]
    fn a_reading_that_began_before_is_not_the_one_that_was_asked_for() {
        let survey = Survey::default();
        survey.end_reading(survey.begin_reading());
        assert!(survey.has_seen(1), "whoever waits for the first one");
        let number = survey.ask();
        assert!(!survey.has_seen(number));
    }

    /// A server with many tables opens each of them. Nobody may take that for a server without triggers.
    #[test]
    fn a_reading_that_is_never_done_is_told_of() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let text = format!(
                "[mysql.m]\nlisten = \"127.0.0.1:1\"\nuser = \"u\"\npassword = \"p\"\nprimary = \"{}\"\n",
                silent.local_addr().unwrap()
            );
            let config = crate::config::parse("test.toml", &text, &[]).unwrap_or_else(|report| panic!("{report}")).0;
            let shared = Shared::new(&Arc::new(config), 0, 1);
            for (health, is_told) in [(Health::Down, false), (Health::Writable, true)] {
                shared.server(0).set_health(health);
                let trouble = read_in_time(&shared, 0, Duration::from_millis(20)).await.unwrap_err();
                assert_eq!(!matches!(trouble, Trouble::OutOfReach(_)), is_told, "{health:?}: {trouble}");
            }
        });
    }

    #[test]
    fn what_is_found_has_a_new_edition_only_when_it_is_another() {
        let survey = Survey::default();
        survey.publish(Hidden::default());
        assert_eq!(survey.edition(), 2);
        survey.publish(Hidden::unsure());
        survey.publish(Hidden::unsure());
        assert_eq!((survey.edition(), survey.found().is_empty()), (3, false));
    }
}
