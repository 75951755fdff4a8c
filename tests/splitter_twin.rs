//! One random session script, said to a MariaDB server and, through the splitter, to a primary with two replicas: every
//! result, column definition, warning count, status flag, insert id, row count, error and setting must be the same. Many
//! clients share few connections, each in databases of its own.
//!
//! `TWIN_SEED` chooses the scripts, `TWIN_SECONDS` makes the run longer, `TWIN_CLIENTS` (each is a thread) wider, `TWIN_TRAIL`
//! shows more of what a client did before it failed. What a client says is up to its seed alone, but for when it may say what
//! holds a connection: that, and which connection it gets, is up to the others. Run by hand, one goes on until
//! `TWIN_STATEMENTS` are compared, two millions if it is not told, with a new seed for each `TWIN_SECONDS`:
//!
//! ```text
//! TWIN_STATEMENTS=5000000 cargo nextest run --test splitter_twin --run-ignored only --no-capture
//! ```

mod support;

#[path = "twin/answers.rs"]
mod answers;
#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "twin/script.rs"]
mod script;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests send broken packets")]
mod sql_wire;
#[path = "twin/stage.rs"]
mod stage;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use answers::{brief, is_of_the_server, is_warned_more_often, normal, status};
use mariadb::{PASSWORD, USER};
use one_server::mysql::protocol::capability::{
    DEPRECATE_EOF, FOUND_ROWS, IGNORE_SPACE, INTERACTIVE, MULTI_RESULTS, MULTI_STATEMENTS, PS_MULTI_RESULTS,
    STATUS_IN_TRANS_READONLY,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use script::{Param, Script, Step};
use sql_wire::{LogOn, Piece, Shape, Wire, text_values};
use stage::{Scene, Stage, setting};
use support::ports;
use support::*;

/// How the splitter says that it cannot answer a question about the last statement: its connection was needed by somebody
/// else meanwhile.
const OWNED_UP: [&str; 3] = [
    "what the last statement left behind is gone",
    "the last statement ran on a replica",
    "LAST_INSERT_ID() and what the last statement left behind are known to different connections",
];

/// How it refuses what a READ ONLY transaction on a replica cannot do, as documented.
const TIED_DOWN: &str = "the READ ONLY transaction runs on a replica";

/// What becomes of a script behind an answer that was compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    /// The splitter owns up not to know: both sessions are brought to the same point.
    Realign,
    /// One of them has done what the other one could not.
    BeginAnew,
}

/// The same session twice.
struct Twin<'a> {
    seed: u64,
    script: Script,
    scene: &'a Scene,
    direct: Wire,
    split: Wire,
    /// By slot: ids of the statement on both sides, and its number of parameters.
    statements: HashMap<usize, (u32, u32, usize)>,
    trail: VecDeque<String>,
    /// Status flags of the server's last answer.
    status: u16,
    /// A database is selected.
    has_schema: bool,
}

fn play(scene: &Scene, seed: u64, client: usize) {
    Twin::run(scene, seed, client);
}

#[test]
fn a_session_sees_through_the_splitter_what_it_sees_on_one_server() {
    if !mariadb::is_installed() {
        return;
    }
    // Some clients say what they have always said, the others what nobody has said before.
    let seeds = match setting("TWIN_SEED") {
        Some(seed) => vec![seed],
        None => vec![1, 1000 + u64::from(rand::random::<u32>())],
    };
    let driver = if seeds[0].is_multiple_of(2) { Driver::IoUring } else { Driver::Epoll };
    Stage::open(driver).perform(&seeds, Duration::from_secs(setting("TWIN_SECONDS").unwrap_or(4)), play);
}

#[test]
#[ignore = "takes an hour: millions of statements (the file's head says how many)"]
fn a_session_sees_through_the_splitter_what_it_sees_on_one_server_for_millions_of_statements() {
    if !mariadb::is_installed() {
        return;
    }
    let wanted = setting("TWIN_STATEMENTS").unwrap_or(2_000_000) as usize;
    let time = Duration::from_secs(setting("TWIN_SECONDS").unwrap_or(60));
    let mut seeds = setting("TWIN_SEED").unwrap_or_else(|| rand::random::<u32>().into())..;
    let mut statements = 0;
    for (driver, share) in [(Driver::IoUring, wanted / 2), (Driver::Epoll, wanted)] {
        let stage = Stage::open(driver);
        while statements < share {
            statements += stage.perform(&[seeds.next().expect("there are many")], time, play);
            eprintln!("{statements} of {wanted} statements");
        }
    }
}

/// A login as this or that driver does it.
fn log_on(random: &mut StdRng, client: usize) -> LogOn {
    const MANY: u32 = MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS;
    let capabilities = [
        DEPRECATE_EOF | MANY,
        MANY,
        DEPRECATE_EOF | MULTI_RESULTS | PS_MULTI_RESULTS | FOUND_ROWS,
        DEPRECATE_EOF | MANY | IGNORE_SPACE | INTERACTIVE,
        0,
    ];
    let collations = [45, 45, 45, 8, 28, 13, 224];
    let schema = format!("{}{client}", ["t", "u"].choose(random).expect("not empty"));
    let mut log_on = LogOn::new(USER, PASSWORD, (random.random_range(0..12) > 0).then_some(&schema));
    log_on.capabilities = *capabilities.choose(random).expect("not empty");
    log_on.collation = *collations.choose(random).expect("not empty");
    log_on
}

impl<'a> Twin<'a> {
    fn run(scene: &'a Scene, seed: u64, client: usize) {
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(client as u64));
        let log_on = log_on(&mut random, client);
        let connect = |address| Wire::connect(address, &log_on).expect("a login");
        let (direct, split) = (connect(scene.direct), connect(scene.split));
        let (script, has_schema) = (Script::new(random, client, scene.begun), log_on.schema.is_some());
        let trail = VecDeque::from([format!("{log_on:?}")]);
        let mut twin =
            Twin { seed, script, scene, direct, split, statements: HashMap::new(), trail, status: 0, has_schema };
        twin.realign();
        while scene.goes_on() {
            let has_permit = twin.script.permit || scene.take_permit();
            let steps = twin.script.next(has_permit);
            if has_permit && !twin.script.permit {
                scene.give_permit_back();
            }
            for step in steps {
                if twin.take(&step) == Then::BeginAnew {
                    twin.take(&Step::Reconnect);
                    break;
                }
            }
            scene.steps.fetch_add(1, Relaxed);
        }
        if !scene.failed.load(Relaxed) {
            twin.compare_variables();
        }
    }

    /// Whether the splitter refuses, as documented, what would leave something on the one server that cannot be made good by
    /// beginning anew: `p_begin` ends a READ ONLY transaction, and takes a number of AUTO_INCREMENT, which no rollback gives back. So does
    /// a batch that begins another one.
    fn leaves_numbers(&self, step: &Step) -> bool {
        let takes = |sql: &[u8]| sql == b"CALL p_begin()" || sql.starts_with(b"BEGIN; INSERT");
        self.status & STATUS_IN_TRANS_READONLY != 0 && matches!(step, Step::Query(sql) if takes(sql))
    }

    /// Whether a server answers at random: without a database, MariaDB 10.11 tells COM_FIELD_LIST an error or, if the last query
    /// of that very connection had a WITH, a bare OK packet, behind which clients wait for the rest for ever.
    fn has_no_answer(&self, step: &Step) -> bool {
        !self.has_schema && matches!(step, Step::FieldList(_))
    }

    fn note_schema(&mut self, step: &Step, answer: &[Piece]) {
        let selects = match step {
            Step::InitDb(_) | Step::ChangeUser(_) => true,
            Step::Query(sql) => sql.starts_with(b"USE "),
            _ => false,
        };
        self.has_schema |= selects && matches!(answer, [Piece::Ok { .. }]);
    }

    /// Takes one step on both sides and compares.
    fn take(&mut self, step: &Step) -> Then {
        if self.leaves_numbers(step) || self.has_no_answer(step) {
            return Then::GoOn;
        }
        let kept = self.scene.trail;
        if step.is_fresh_start() && self.trail.len() > kept {
            let surplus = self.trail.len() - kept;
            self.trail.drain(..surplus);
        }
        self.trail.push_back(match step {
            Step::Query(sql) => format!("{}", sql.escape_ascii()),
            other => format!("{other:?}"),
        });
        let (direct, split) = match step {
            Step::Reconnect => {
                self.reconnect();
                return Then::GoOn;
            }
            Step::ChangeUser(schema) => {
                self.both(|wire, _| wire.send_change_user(schema), |wire| wire.change_user_answer())
            }
            _ => {
                let Some((code, arguments, shape)) = self.command(step) else { return Then::GoOn };
                self.both(|wire, side| wire.send(code, &arguments[side]), |wire| wire.answer(shape))
            }
        };
        if let Some(said) = self.trail.back_mut() {
            said.push_str(&format!("  -> {}", direct.iter().map(brief).collect::<Vec<_>>().join(", ")));
        }
        self.scene.statements.fetch_add(1, Relaxed);
        self.note_schema(step, &direct);
        self.status = direct.last().and_then(status).unwrap_or(self.status);
        let then = self.compare(&direct, &split);
        if then == Then::Realign {
            self.realign();
            let sets = matches!(step, Step::Query(sql) if sql.starts_with(b"GET DIAGNOSTICS"));
            return if sets { Then::BeginAnew } else { Then::GoOn };
        }
        if let Step::Prepare { slot, .. } = step
            && let [Piece::Prepared { params, .. }] = &direct[..]
        {
            self.statements.insert(*slot, (self.direct.prepared_id, self.split.prepared_id, params.len()));
        }
        if step.is_fresh_start() {
            self.fresh();
        }
        then
    }

    /// The session is as new.
    fn fresh(&mut self) {
        self.statements.clear();
        if std::mem::take(&mut self.script.permit) {
            self.scene.give_permit_back();
        }
    }

    /// Sends to both, then reads both answers.
    fn both(
        &mut self,
        send: impl Fn(&mut Wire, usize) -> io::Result<()>,
        read: impl Fn(&mut Wire) -> io::Result<Vec<Piece>>,
    ) -> (Vec<Piece>, Vec<Piece>) {
        let sent = send(&mut self.direct, 0).and_then(|()| send(&mut self.split, 1));
        let direct = sent.and_then(|()| read(&mut self.direct));
        let direct = direct.unwrap_or_else(|error| self.fail(&format!("directly: {error}")));
        match read(&mut self.split) {
            Ok(split) => (direct, split),
            Err(error) => self.fail(&format!("through the splitter: {error}; directly: {direct:?}")),
        }
    }

    /// Command code, arguments for both sides, form of the answer. `None`: there is no such statement now.
    fn command(&mut self, step: &Step) -> Option<(u8, [Vec<u8>; 2], Shape)> {
        let same = |code, bytes: Vec<u8>, shape| Some((code, [bytes.clone(), bytes], shape));
        let by_id = |code, slot: &usize, shape, rest: &[u8]| {
            let (direct, split, _) = *self.statements.get(slot)?;
            Some((code, [direct, split].map(|id| [&id.to_le_bytes(), rest].concat()), shape))
        };
        match step {
            Step::Query(sql) => same(0x03, sql.clone(), Shape::Results),
            Step::Prepare { slot, sql } => {
                self.statements.remove(slot);
                same(0x16, sql.clone().into_bytes(), Shape::Prepared)
            }
            Step::Execute { slot, params, bind, cursor } => {
                let count = self.statements.get(slot)?.2;
                let rest = execution(params, *bind, *cursor);
                if count == params.len() { by_id(0x17, slot, Shape::Results, &rest) } else { None }
            }
            Step::Fetch { slot, rows } => by_id(0x1C, slot, Shape::Fetched, &rows.to_le_bytes()),
            Step::ResetStatement { slot } => by_id(0x1A, slot, Shape::Single, b""),
            Step::CloseStatement { slot } => {
                let command = by_id(0x19, slot, Shape::Nothing, b"");
                self.statements.remove(slot);
                command
            }
            Step::LongData { slot, param, bytes } => {
                by_id(0x18, slot, Shape::Nothing, &[&param.to_le_bytes()[..], bytes].concat())
            }
            Step::InitDb(name) => same(0x02, name.clone().into_bytes(), Shape::Single),
            Step::FieldList(table) => same(0x04, [table.as_bytes(), b"\0"].concat(), Shape::Fields),
            Step::MultiStatements(on) => same(0x1B, vec![u8::from(!on), 0], Shape::Single),
            Step::Ping => same(0x0E, Vec::new(), Shape::Single),
            Step::ResetConnection => same(0x1F, Vec::new(), Shape::Single),
            Step::ChangeUser(_) | Step::Reconnect => None,
        }
    }

    fn reconnect(&mut self) {
        let log_on = log_on(&mut self.script.random, self.script.client);
        self.trail.push_back(format!("{log_on:?}"));
        for (wire, address) in [(&mut self.direct, self.scene.direct), (&mut self.split, self.scene.split)] {
            let _ = wire.send(0x01, b"");
            assert!(wire.is_closed_within(PATIENCE), "COM_QUIT closes");
            *wire = Wire::connect(address, &log_on).expect("a login");
        }
        self.has_schema = log_on.schema.is_some();
        self.fresh();
        self.realign();
    }

    /// A query that uses a table, so it leaves no warnings behind, and known counts. A new session begins with it, too:
    /// MariaDB's FOUND_ROWS() starts with what the session before in the same thread has found.
    fn realign(&mut self) {
        let sql = b"SELECT 1 FROM (SELECT 1) AS t";
        let (direct, split) = self.both(|wire, _| wire.send(3, sql), |wire| wire.answer(Shape::Results));
        self.compare(&direct, &split);
    }

    fn compare(&mut self, direct: &[Piece], split: &[Piece]) -> Then {
        if let [Piece::Err { code: 1105, message, .. }] = split
            && OWNED_UP.iter().any(|text| message.starts_with(text.as_bytes()))
        {
            self.scene.unknown.fetch_add(1, Relaxed);
            return Then::Realign;
        }
        if let [Piece::Err { code: 1792, message, .. }] = split
            && message.starts_with(TIED_DOWN.as_bytes())
        {
            return Then::BeginAnew;
        }
        let normal = |pieces: &[Piece]| pieces.iter().cloned().map(normal).collect::<Vec<_>>();
        let (direct, split) = (normal(direct), normal(split));
        if direct != split && is_warned_more_often(&direct, &split) {
            return Then::Realign;
        }
        if direct != split {
            self.fail(&format!("\n  directly:\n    {direct:?}\n  through the splitter:\n    {split:?}"));
        }
        Then::GoOn
    }

    fn compare_variables(&mut self) {
        self.trail.push_back("SHOW SESSION VARIABLES".into());
        let (direct, split) =
            self.both(|wire, _| wire.send(0x03, b"SHOW SESSION VARIABLES"), |wire| wire.answer(Shape::Results));
        let [Piece::Rows { rows: direct, .. }] = &direct[..] else { return };
        let [Piece::Rows { rows: split, .. }] = &split[..] else { self.fail(&format!("{split:?}")) };
        for (direct, split) in direct.iter().zip(split) {
            let (direct, split) = (text_values(direct), text_values(split));
            let name = direct[0].clone().expect("a name");
            let is_path = direct[1].as_ref().is_some_and(|value| value.starts_with('/'));
            if direct != split && !is_path && !is_of_the_server(&name) {
                self.fail(&format!("{direct:?} {split:?}"));
            }
        }
    }

    fn fail(&self, what: &str) -> ! {
        self.scene.failed.store(true, Relaxed);
        let trail: Vec<_> = self.trail.iter().map(String::as_str).collect();
        let (seed, client) = (self.seed, self.script.client);
        panic!("TWIN_SEED={seed} client {client}: {what}\nbefore that:\n{}\n", trail.join("\n"));
    }
}

/// COM_STMT_EXECUTE behind the statement's id.
fn execution(params: &[Param], bind: bool, cursor: bool) -> Vec<u8> {
    let mut out = vec![u8::from(cursor), 1, 0, 0, 0];
    if params.is_empty() {
        return out;
    }
    let mut nulls = vec![0u8; params.len().div_ceil(8)];
    let (mut types, mut values) = (Vec::new(), Vec::new());
    for (n, param) in params.iter().enumerate() {
        let kind: u8 = match param {
            Param::Null => {
                nulls[n / 8] |= 1 << (n % 8);
                0x06
            }
            Param::Int(value) => {
                values.extend_from_slice(&value.to_le_bytes());
                0x08
            }
            Param::Double(value) => {
                values.extend_from_slice(&value.to_le_bytes());
                0x05
            }
            Param::Text(text) => {
                values.push(text.len() as u8);
                values.extend_from_slice(text);
                0xFD
            }
            Param::Blob(bytes) => {
                values.push(bytes.len() as u8);
                values.extend_from_slice(bytes);
                0xFC
            }
            Param::Long => 0xFC,
        };
        types.extend_from_slice(&[kind, 0]);
    }
    out.extend_from_slice(&nulls);
    out.push(u8::from(bind));
    if bind {
        out.extend_from_slice(&types);
    }
    out.extend_from_slice(&values);
    out
}
