//! What the session needs to know about a statement, whoever sends it. Pure data.

use super::batch::Batch;
use super::locks::LockStep;

/// What a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Certainly a read: may run on a replica.
    Read,
    /// Harmless, but about one server: runs on the primary while it is there.
    Local,
    /// A read that locks rows: runs on the primary.
    Locking,
    /// Asks about the statement before it, or about the last insert id.
    Diagnostics,
    /// Sets session variables, names, transaction characteristics.
    Set,
    /// Changes the current database.
    Use,
    /// BEGIN, COMMIT, SAVEPOINT and so on.
    Transaction,
    /// ROLLBACK of a whole transaction.
    Rollback,
    /// Changes rows.
    Write,
    /// Changes tables, accounts, the server.
    Definition,
    /// KILL: not for a server, because connection ids are the splitter's.
    Kill,
    /// Could not be classified.
    Unknown,
}

/// Why a session stays on one connection of the primary until it ends or is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// More than one statement in a packet, one of which would pin by itself, or cannot be judged there.
    MultiStatement,
    /// A user variable, `:=`.
    UserVariable,
    /// LOCK TABLES, FLUSH TABLES WITH READ LOCK, HANDLER, BACKUP STAGE.
    Lock,
    /// A temporary table.
    Temporary,
    /// PREPARE, EXECUTE, DEALLOCATE as text.
    TextPrepare,
    /// CALL, DO, EXECUTE IMMEDIATE, compound statements.
    Call,
    /// A function that is not known to be pure.
    UnknownFunction,
    /// CONNECTION_ID() among other things: the server's number of the connection.
    ConnectionId,
    /// XA transactions.
    Xa,
    /// A kind of SET whose effect is not tracked.
    Setting,
    /// Executable comments.
    ExecutableComment,
    /// What the lexer or the classifier does not understand, or too long to look at.
    Unknown,
    /// The server reported a change of session state that the statement did not announce.
    StateChange,
    /// An open cursor, or parameters sent in pieces.
    Statement,
    /// What a trigger, a view, or the default of a column does that the statement does not show: a lock, a sequence.
    Hidden,
}

/// What a statement that begins a transaction says of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the session's settings decide.
    Unsaid,
    /// READ ONLY.
    ReadOnly,
    /// READ WRITE.
    ReadWrite,
}

/// What becomes of the warnings of the statement before, if a statement raises none itself. Measured on MariaDB 10.11: one that
/// names tables forgets them, and so does each such statement that runs within another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgets {
    /// They stay.
    No,
    /// They are forgotten.
    Yes,
    /// It depends on what is not in the statement: the body of a routine, a prepared text.
    Perhaps,
}

impl Pin {
    /// Number of reasons.
    pub const COUNT: usize = Pin::ALL.len();
    /// Each, in the order of [`Pin::index`].
    pub const ALL: [Pin; 15] = [
        Pin::MultiStatement,
        Pin::UserVariable,
        Pin::Lock,
        Pin::Temporary,
        Pin::TextPrepare,
        Pin::Call,
        Pin::UnknownFunction,
        Pin::ConnectionId,
        Pin::Xa,
        Pin::Setting,
        Pin::ExecutableComment,
        Pin::Unknown,
        Pin::StateChange,
        Pin::Statement,
        Pin::Hidden,
    ];

    /// Its place in [`Pin::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// As it stands in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Pin::MultiStatement => "multi_statement",
            Pin::UserVariable => "user_variable",
            Pin::Lock => "lock",
            Pin::Temporary => "temporary_table",
            Pin::TextPrepare => "text_prepare",
            Pin::Call => "call",
            Pin::UnknownFunction => "unknown_function",
            Pin::ConnectionId => "connection_id",
            Pin::Xa => "xa",
            Pin::Setting => "setting",
            Pin::ExecutableComment => "executable_comment",
            Pin::Unknown => "unknown",
            Pin::StateChange => "state_change",
            Pin::Statement => "prepared_statement",
            Pin::Hidden => "hidden_state",
        }
    }
}

/// Bits of [`Class::diagnostics`].
pub mod diagnostics {
    /// SHOW WARNINGS and its like.
    pub const WARNINGS: u8 = 1;
    /// ROW_COUNT().
    pub const ROWS: u8 = 2;
    /// LAST_INSERT_ID(), @@identity.
    pub const INSERT_ID: u8 = 4;
    /// FOUND_ROWS(), which only queries change.
    pub const FOUND: u8 = 8;
    /// CONNECTION_ID().
    pub const CONNECTION_ID: u8 = 16;
    /// What only the connection can know that ran the statement.
    pub const LEFT_BEHIND: u8 = WARNINGS | ROWS | FOUND;
}

/// Everything the session needs to know about a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What it is.
    pub kind: Kind,
    /// It pins the session, and why.
    pub pin: Option<Pin>,
    /// What it wants to know about statements before it, see [`diagnostics`].
    pub diagnostics: u8,
    /// It has SQL_CALC_FOUND_ROWS.
    pub calc_found_rows: bool,
    /// It names a collation, so a SET may change `collation_connection`, which servers do not report.
    pub collate: bool,
    /// It is LOAD DATA LOCAL: the server asks the client for a file.
    pub local_file: bool,
    /// It may show rows of tables, or what tables there are.
    pub tables: bool,
    /// What it does to the warnings of the statement before it.
    pub forgets: Forgets,
    /// A hint (SET_VAR) changes variables, and they are as before behind it; MySQL tells of both as of a change.
    pub restores: bool,
    /// What it uses may set something behind it, or nobody knows what that does: a view's function, a trigger.
    pub may_set: bool,
    /// BEGIN, START TRANSACTION.
    pub begins: Option<Access>,
    /// FOUND_ROWS() counts its rows, when it has any.
    pub finds: bool,
    /// FOUND_ROWS() is the number of those that are sent: none are left out in front of them, or by LIMIT behind a UNION.
    pub counts: bool,
    /// What it does to locks of the session, if it pins for these alone.
    pub lock: LockStep,
    /// It is a CALL that pins for what the procedure may do, and for nothing else.
    pub plain_call: bool,
    /// It may do several things, of which its answer tells not all, and does not pin because nothing stays behind in the session:
    /// such a CALL, as the operator has said, or a batch.
    pub trusted: bool,
    /// It may answer with rows although it writes: RETURNING. `false`: or it does not write.
    pub returns: bool,
    /// It is several statements.
    pub batch: Option<Batch>,
    /// It sets something for sessions that begin later; of several statements, the how manieth is the first to do so, from 0.
    pub global_at: Option<u32>,
}

impl Class {
    pub(super) const fn of(kind: Kind) -> Class {
        Class {
            kind,
            pin: None,
            diagnostics: 0,
            calc_found_rows: false,
            collate: false,
            local_file: false,
            tables: false,
            forgets: Forgets::No,
            restores: false,
            may_set: false,
            begins: None,
            finds: false,
            counts: false,
            lock: LockStep::Unknown,
            plain_call: false,
            trusted: false,
            returns: false,
            batch: None,
            global_at: None,
        }
    }

    /// The class of what cannot be looked at.
    pub const UNKNOWN: Class =
        Class { pin: Some(Pin::Unknown), tables: true, forgets: Forgets::Perhaps, ..Class::of(Kind::Unknown) };

    /// SHOW WARNINGS and its like, which leave what they show as it is.
    pub fn asks_warnings_only(&self) -> bool {
        self.kind == Kind::Diagnostics && self.diagnostics == diagnostics::WARNINGS && self.forgets != Forgets::Yes
    }

    /// The class of a command that is no statement: it leaves the warnings of the statement before as they are.
    pub const fn of_command(kind: Kind) -> Class {
        Class::of(kind)
    }

    /// Whether a replica may answer, as far as the statement itself is concerned.
    pub fn is_read(&self) -> bool {
        self.kind == Kind::Read && self.pin.is_none()
    }
}
