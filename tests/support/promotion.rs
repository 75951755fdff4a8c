//! What an operator does to change the primary of a cluster of MariaDB, by hand.

use super::mariadb::Server;

/// It refuses writes from now on; those under way end first.
pub(crate) fn demote(server: &Server) {
    server.sql("SET GLOBAL read_only=1");
}

/// It follows nobody from now on, and takes writes.
pub(crate) fn promote(server: &Server) {
    server.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
}

/// It follows `primary` from now on, read-only, from where it is.
pub(crate) fn follow(server: &Server, primary: &Server) {
    // A server that wrote itself counts that in; one that did not has nothing to count.
    let demotes = if server.sql("SHOW SLAVE STATUS").is_empty() { ", MASTER_DEMOTE_TO_SLAVE=1" } else { "" };
    server.sql(&format!(
        "SET GLOBAL read_only=1; STOP SLAVE; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, \
         MASTER_USER='replication', MASTER_PASSWORD='r', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1{demotes}; \
         START SLAVE",
        primary.port
    ));
}

/// Waits until it has everything that `other` has written.
pub(crate) fn catch_up(server: &Server, other: &Server) {
    let position = other.sql("SELECT @@gtid_current_pos");
    let reached = server.sql(&format!("SELECT MASTER_GTID_WAIT('{position}', 30)"));
    assert_eq!(reached, "0", "server {} does not reach {position}", server.id);
}

/// The proper order: nothing is lost.
pub(crate) fn switch_over(from: &Server, to: &Server, others: &[&Server]) {
    demote(from);
    catch_up(to, from);
    promote(to);
    follow(from, to);
    others.iter().for_each(|other| follow(other, to));
}
