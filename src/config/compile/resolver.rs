//! `[resolver]`.

use std::time::Duration;

use crate::config::model::{Families, Resolver};
use crate::config::report::Problem;
use crate::config::section::{Placed, Section};

pub(super) fn compile(section: &Section<'_>) -> Resolver {
    let name_servers: Vec<Placed<std::net::SocketAddr>> = section.list("name_servers");
    let ttl_min: Duration = section.get("ttl_min");
    let ttl_max: Duration = section.get("ttl_max");
    if ttl_min > ttl_max {
        let title = "`ttl_min` is longer than `ttl_max`";
        let label = "an answer cannot hold longer at least than at most";
        section.cx.mistake(Problem::new(title, section.value_span("ttl_min"), label));
    }
    for server in name_servers.iter().filter(|server| server.value.port() == 0) {
        let title = format!("bad value for `name_servers` in {}", section.title);
        section.cx.mistake(Problem::new(
            title,
            server.span.clone(),
            "port 0 answers nobody: name servers have port 53",
        ));
    }
    Resolver {
        name_servers: name_servers.into_iter().map(|server| server.value).collect(),
        families: match section.get("addresses") {
            "ipv4" => Families::Ipv4,
            "ipv6" => Families::Ipv6,
            _ => Families::Both,
        },
        addresses_max: section.get("addresses_max"),
        timeout: section.get("timeout"),
        tries: section.get("tries"),
        ttl_min,
        ttl_max,
        hold: section.get("hold"),
    }
}
