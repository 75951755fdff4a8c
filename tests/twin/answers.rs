//! Answers of two servers to the same statement, without what may differ.

use super::sql_wire::Piece;

/// Status flags that tell of the moment, not of the statement: a slow query, that session state was tracked; that no index was
/// used or no good one, which each server decides by statistics of its own; and that the columns of a prepared statement are
/// others than when that server was last asked for them, which the session may have been told by another one (they come with
/// each result anyway).
const MOMENTARY: u16 = 0x4000 | 0x0800 | 0x0400 | 0x0020 | 0x0010;
/// Those in front of rows that mean something there: autocommit, cursor, backslashes. Whether the statement opens a
/// transaction is told behind them.
const IN_FRONT_OF_ROWS: u16 = 0x0002 | 0x0040 | 0x0200;

/// Status flags behind everything else in an answer.
pub(crate) fn status(piece: &Piece) -> Option<u16> {
    match piece {
        Piece::Ok { status, .. } | Piece::Eof((_, status)) => Some(*status),
        Piece::Rows { end: Some(end), .. } => status(end),
        _ => None,
    }
}

/// For the trail.
pub(crate) fn brief(piece: &Piece) -> String {
    match piece {
        Piece::Rows { rows, end, .. } => format!("{} rows {end:?}", rows.len()),
        Piece::Prepared { params, columns, .. } => format!("prepared {} {}", params.len(), columns.len()),
        other => format!("{other:?}"),
    }
}

/// Without what must differ.
pub(crate) fn normal(piece: Piece) -> Piece {
    match piece {
        Piece::Ok { affected, insert_id, status, warnings, info } => {
            Piece::Ok { affected, insert_id, status: status & !MOMENTARY, warnings, info }
        }
        Piece::Eof((warnings, status)) => Piece::Eof((warnings, status & !MOMENTARY)),
        Piece::Rows { columns, middle, rows, end } => Piece::Rows {
            columns,
            middle: middle.map(|(_, status)| (0, status & IN_FRONT_OF_ROWS)),
            rows: rows.into_iter().map(without_statement_id).collect(),
            end: end.map(|end| Box::new(normal(*end))),
        },
        Piece::Prepared { params, columns, warnings, ends } => Piece::Prepared {
            params,
            columns,
            warnings,
            ends: ends.into_iter().map(|(_, status)| (0, status & IN_FRONT_OF_ROWS)).collect(),
        },
        // The text has the statement's id.
        Piece::Err { code: code @ (1243 | 1421), state, .. } => Piece::Err { code, state, message: Vec::new() },
        other => other,
    }
}

/// Whether the same rows came with another number of the same warnings: how often a server looks at a value that it cannot
/// convert is up to the plan that it chooses by statistics of its own.
pub(crate) fn is_warned_more_often(direct: &[Piece], split: &[Piece]) -> bool {
    let (mut direct, mut split) = (direct.to_vec(), split.to_vec());
    let warnings = |pieces: &mut [Piece]| match pieces {
        [Piece::Rows { end: Some(end), .. }] => match &mut **end {
            Piece::Ok { warnings, .. } | Piece::Eof((warnings, _)) => Some(std::mem::take(warnings)),
            _ => None,
        },
        _ => None,
    };
    let counts = (warnings(&mut direct), warnings(&mut split));
    matches!(counts, (Some(1..), Some(1..))) && direct == split
}

/// SHOW WARNINGS prints statements' ids, which are of the server, in errors that name one.
fn without_statement_id(row: Vec<u8>) -> Vec<u8> {
    let names_one = [&b"no open cursor"[..], b"prepared statement handler"];
    let is_it = names_one.iter().any(|text| row.windows(text.len()).any(|window| window == *text));
    // Its length is part of the row, too.
    if is_it { row.into_iter().filter(|byte| byte.is_ascii_alphabetic()).collect() } else { row }
}

/// Variables that tell of the server or of the connection, not of the session; seeds are random. The last insert id and what
/// is left of warnings are the session's, and what asks for them by name is told; SHOW VARIABLES prints those of the
/// connection it runs on (README, limits).
pub(crate) fn is_of_the_server(name: &str) -> bool {
    const PREFIXES: &[&str] = &["gtid_", "log_", "relay_log", "session_track_", "report_", "general_log", "slow_query"];
    const NAMES: &[&str] = &[
        "port",
        "socket",
        "datadir",
        "tmpdir",
        "slave_load_tmpdir",
        "hostname",
        "server_id",
        "server_uid",
        "pid_file",
        "pseudo_thread_id",
        "timestamp",
        "last_gtid",
        "read_only",
        "rand_seed1",
        "rand_seed2",
        "identity",
        "last_insert_id",
        "warning_count",
        "error_count",
        "general_log_file",
        "innodb_buffer_pool_load_at_startup",
        "in_transaction",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
