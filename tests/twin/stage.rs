//! The servers of a twin run, and the splitter in front of some of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::mariadb::{self, Cluster, PASSWORD, USER};
use super::script::definitions;
use super::split;
use super::sql_wire::{LogOn, Wire};
use super::support::{Driver, Server};

/// Pooled connections to each server.
const POOL_MAX: usize = 4;
/// How much of a client's past is shown when it fails, beside its present session (`TWIN_TRAIL`: more of it).
const TRAIL: u64 = 40;

/// One run: some clients, for some time.
pub(crate) struct Scene {
    pub(crate) trail: usize,
    started: Instant,
    /// A run takes so long, and on a slow machine up to twice as long, until `steps_min` were taken.
    time: Duration,
    steps_min: usize,
    /// In seconds since 1970.
    pub(crate) begun: u64,
    pub(crate) direct: SocketAddr,
    pub(crate) split: SocketAddr,
    /// Sessions that may hold a connection.
    permits: AtomicUsize,
    /// Steps taken, and of these what was sent and compared.
    pub(crate) steps: AtomicUsize,
    pub(crate) statements: AtomicUsize,
    /// Answers that the splitter owns up not to have.
    pub(crate) unknown: AtomicUsize,
    pub(crate) failed: AtomicBool,
}

impl Scene {
    pub(crate) fn goes_on(&self) -> bool {
        let (elapsed, is_short) = (self.started.elapsed(), self.steps.load(Relaxed) < self.steps_min);
        !self.failed.load(Relaxed) && (elapsed < self.time || is_short && elapsed < self.time * 2)
    }

    /// A client may hold a connection, if this returns true; then it must give the permit back.
    pub(crate) fn take_permit(&self) -> bool {
        self.permits.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    pub(crate) fn give_permit_back(&self) {
        self.permits.fetch_add(1, Relaxed);
    }
}

fn local(server: &mariadb::Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port))
}

pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn is_random_database(column: &str) -> String {
    format!("{column} RLIKE '^[tu][0-9]+$'")
}

/// The servers, and the splitter in front of some of them.
pub(crate) struct Stage {
    alone: Cluster,
    cluster: Cluster,
    splitter: Server,
    clients: usize,
}

impl Stage {
    pub(crate) fn open(driver: Driver) -> Stage {
        let (alone, cluster) = std::thread::scope(|scope| {
            let alone = scope.spawn(|| Cluster::start(0));
            let cluster = Cluster::start(2);
            (alone.join().expect("it starts"), cluster)
        });
        for server in [&alone.primary, &cluster.primary] {
            server.sql(&format!("GRANT TRIGGER, SHOW VIEW ON *.* TO {USER}@'%'"));
        }
        cluster.wait_for_replicas();
        let settings = format!("pool_max = {POOL_MAX}\npool_timeout = \"30s\"\ncausal_reads = \"node\"");
        let splitter = split::site(driver, &cluster, &settings).start();
        Stage { alone, cluster, splitter, clients: setting("TWIN_CLIENTS").unwrap_or(12) as usize }
    }

    /// Gives each client its databases, as new.
    fn furnish(&self) {
        for server in [&self.alone.primary, &self.cluster.primary] {
            let mut wire = Wire::connect(local(server), &LogOn::new(USER, PASSWORD, None)).expect("a login");
            for database in (0..self.clients).flat_map(|client| ["t", "u"].map(|letter| format!("{letter}{client}"))) {
                for sql in definitions(&database) {
                    let answer = wire.query(&sql).expect("an answer");
                    assert!(answer.iter().all(|piece| piece.code().is_none()), "{sql}: {answer:?}");
                }
            }
        }
        self.cluster.wait_for_replicas();
    }

    /// Runs clients side by side, each with its number and one of the seeds. Returns how many statements were compared.
    pub(crate) fn perform(&self, seeds: &[u64], time: Duration, run: impl Fn(&Scene, u64, usize) + Sync) -> usize {
        eprintln!("TWIN_SEED={seeds:?}");
        self.furnish();
        let read_before = self.on_replicas();
        let scene = Scene {
            trail: setting("TWIN_TRAIL").unwrap_or(TRAIL) as usize,
            started: Instant::now(),
            time,
            steps_min: self.clients * 30,
            begun: std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs(),
            direct: local(&self.alone.primary),
            split: self.splitter.address("db"),
            permits: AtomicUsize::new(POOL_MAX - 1),
            steps: AtomicUsize::new(0),
            statements: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            for client in 0..self.clients {
                let (scene, run, seed) = (&scene, &run, seeds[client * seeds.len() / self.clients]);
                scope.spawn(move || run(scene, seed, client));
            }
        });
        let (steps, unknown) = (scene.steps.into_inner(), scene.unknown.into_inner());
        let statements = scene.statements.into_inner();
        let on_replicas = self.on_replicas() - read_before;
        eprintln!(
            "{statements} statements in {steps} steps, {on_replicas} on replicas, {unknown} questions without an answer"
        );
        assert!(steps > self.clients * 10 && on_replicas > 10.0, "the run is worth something");
        assert!(unknown * 20 < steps, "the splitter knows what a session may ask");
        self.compare_tables(seeds);
        statements
    }

    fn on_replicas(&self) -> f64 {
        self.splitter.metric("one_server_splitter_statements_total", "to=\"replica\"")
    }

    /// Everywhere the same rows.
    fn compare_tables(&self, seeds: &[u64]) {
        self.cluster.wait_for_replicas();
        let tables = format!(
            "SELECT GROUP_CONCAT(CONCAT(table_schema, '.', table_name) ORDER BY 1) FROM information_schema.tables WHERE \
             table_type = 'BASE TABLE' AND {}",
            is_random_database("table_schema")
        );
        let primary = &self.cluster.primary;
        let tables = primary.sql(&format!("SET group_concat_max_len = 1000000; {tables}"));
        let sums = |server: &mariadb::Server| server.sql(&format!("CHECKSUM TABLE {tables}"));
        for server in self.cluster.replicas.iter().chain([&self.alone.primary]) {
            assert_eq!(sums(server), sums(primary), "seeds {seeds:?}: rows of server {} differ", server.id);
        }
    }
}
