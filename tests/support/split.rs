//! The binary with one splitter `db` in front of servers, for tests that only care about the splitter.

use super::{Driver, Site};
use crate::mariadb::{Cluster, PASSWORD, USER};

/// One data worker, so that all clients share one pool; `keys` are lines of the splitter's table.
pub(crate) fn site(driver: Driver, cluster: &Cluster, keys: &str) -> Site {
    let replicas: Vec<_> = cluster.replicas.iter().map(|replica| replica.port).collect();
    site_of(driver, "127.0.0.1:0", cluster.primary.port, &replicas, keys)
}

/// The same with servers, or relays to them, on these ports. Its Unix socket is `db.sock` in the folder.
pub(crate) fn site_of(driver: Driver, listen: &str, primary: u16, replicas: &[u16], keys: &str) -> Site {
    let replicas: Vec<_> = replicas.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let text = format!(
        "[mysql.db]\nlisten = [\"{listen}\", \"unix:$DIR/db.sock\"]\nprimary = \"127.0.0.1:{primary}\"\nreplicas = [{}]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\nmonitor_interval = \"100ms\"\n{keys}\n",
        replicas.join(", ")
    );
    Site::new(driver, "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n")
        .one_worker()
        .more(&text)
}
