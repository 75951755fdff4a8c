//! Capability flags and status flags.
//!
//! Source: MySQL internals manual, `group__group__cs__capabilities__flags`, `mysql_com.h` of MariaDB.

/// Bit 0: `CLIENT_LONG_PASSWORD`. MariaDB servers leave it out to announce extended capabilities; setting it says that
/// there are none.
pub const LONG_PASSWORD: u32 = 1;
/// UPDATE reports rows found instead of rows changed.
pub const FOUND_ROWS: u32 = 1 << 1;
/// Longer column flags.
pub const LONG_FLAG: u32 = 1 << 2;
/// The login names a database.
pub const CONNECT_WITH_DB: u32 = 1 << 3;
/// Compressed packets by zlib.
pub const COMPRESS: u32 = 1 << 5;
/// LOAD DATA LOCAL.
pub const LOCAL_FILES: u32 = 1 << 7;
/// Spaces allowed between a function's name and `(`.
pub const IGNORE_SPACE: u32 = 1 << 8;
/// Protocol 4.1.
pub const PROTOCOL_41: u32 = 1 << 9;
/// `interactive_timeout` instead of `wait_timeout`.
pub const INTERACTIVE: u32 = 1 << 10;
/// TLS.
pub const SSL: u32 = 1 << 11;
/// Status flags tell about transactions.
pub const TRANSACTIONS: u32 = 1 << 13;
/// 20-byte scramble.
pub const SECURE_CONNECTION: u32 = 1 << 15;
/// Several statements in one COM_QUERY.
pub const MULTI_STATEMENTS: u32 = 1 << 16;
/// Several results for one COM_QUERY.
pub const MULTI_RESULTS: u32 = 1 << 17;
/// Several results for one COM_STMT_EXECUTE.
pub const PS_MULTI_RESULTS: u32 = 1 << 18;
/// The login names its authentication plugin.
pub const PLUGIN_AUTH: u32 = 1 << 19;
/// The login carries attributes of the client program.
pub const CONNECT_ATTRS: u32 = 1 << 20;
/// The login's authentication data has a length-encoded length.
pub const PLUGIN_AUTH_LENENC_DATA: u32 = 1 << 21;
/// OK packets carry session state changes.
pub const SESSION_TRACK: u32 = 1 << 23;
/// OK packets in place of EOF packets.
pub const DEPRECATE_EOF: u32 = 1 << 24;
/// Compressed packets by zstd; the login ends in the level.
pub const ZSTD_COMPRESSION: u32 = 1 << 26;
/// Statements carry attributes (MySQL from 8.0.23 on).
pub const QUERY_ATTRIBUTES: u32 = 1 << 27;

/// Flags that change what the server does for a session: a client and its backend connection must agree on them.
pub const SESSION_MASK: u32 = ALWAYS | LOCAL_FILES | QUERY_ATTRIBUTES;

/// Those of them that every server has and nobody minds.
const ALWAYS: u32 = FOUND_ROWS | IGNORE_SPACE | INTERACTIVE | MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS;

/// What the splitter offers to clients, beside TLS where it has certificates, compression and LOCAL INFILE where those
/// are wanted, and query attributes where the servers know them. Absent on purpose: session trackers (consumed here),
/// optional and cached result metadata, MariaDB's bulk operations.
pub const OFFERED: u32 = LONG_PASSWORD
    | LONG_FLAG
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | PLUGIN_AUTH
    | CONNECT_ATTRS
    | PLUGIN_AUTH_LENENC_DATA
    | DEPRECATE_EOF
    | ALWAYS;

/// What every backend connection asks for, besides the session's own flags.
pub const BACKEND_BASE: u32 = LONG_PASSWORD
    | LONG_FLAG
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | PLUGIN_AUTH
    | SESSION_TRACK
    | DEPRECATE_EOF;

/// Status flag: a transaction is open.
pub const STATUS_IN_TRANS: u16 = 1;
/// Status flag: autocommit is on.
pub const STATUS_AUTOCOMMIT: u16 = 1 << 1;
/// Status flag: another result follows.
pub const STATUS_MORE_RESULTS: u16 = 1 << 3;
/// Status flag: a cursor was opened, rows come by COM_STMT_FETCH.
pub const STATUS_CURSOR_EXISTS: u16 = 1 << 6;
/// Status flag: backslash is an ordinary character in strings.
pub const STATUS_NO_BACKSLASH_ESCAPES: u16 = 1 << 9;
/// Status flag: the open transaction is READ ONLY.
pub const STATUS_IN_TRANS_READONLY: u16 = 1 << 13;
/// Status flag: the OK packet carries session state changes.
pub const STATUS_SESSION_STATE_CHANGED: u16 = 1 << 14;
/// Status flag of MariaDB: `"` quotes identifiers.
pub const STATUS_ANSI_QUOTES: u16 = 1 << 15;
/// Those that say in what state a session is, and nothing of one result.
pub const STATUS_OF_SESSION: u16 =
    STATUS_IN_TRANS | STATUS_IN_TRANS_READONLY | STATUS_AUTOCOMMIT | STATUS_NO_BACKSLASH_ESCAPES | STATUS_ANSI_QUOTES;
