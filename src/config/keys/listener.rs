//! Keys of `[listener.NAME]` and its tables.

use super::super::key::Absent::{Default, Means, Required};
use super::super::key::{Key, Table, integer, size};
use super::super::value::Kind;
use super::WAIT;

pub(super) const KEYS: &[Key] = &[
    // [listener.NAME]
    Key::new(Table::Listener, "address", Kind::SocketAddress, Required)
        .help("IP address and port; port 0 picks a free one, which the start-up lines tell")
        .known_as(&["nginx listen", "haproxy bind"]),
    Key::new(Table::Listener, "http2", Kind::Switch, Default("true"))
        .help("speak HTTP/2 with clients that ask for it: over TLS by ALPN, in clear by beginning with it (prior knowledge)")
        .known_as(&["nginx http2", "haproxy bind alpn"])
        .when("false to compare, or for clients whose HTTP/2 is broken"),
    Key::new(Table::Listener, "http3", Kind::Switch, Default("false"))
        .help("speak HTTP/3 over QUIC on the UDP port of the same number, and tell clients of HTTP/1 and HTTP/2 so; needs `tls`")
        .known_as(&["nginx listen quic", "nginx http3", "haproxy bind quic4@"])
        .when("`true` for clients on lossy or changing networks; open the UDP port in the firewall too"),
    Key::new(Table::Listener, "alt_svc", Kind::Field, Means("h3=\":PORT\"; ma=86400 with http3"))
        .help("value of Alt-Svc in answers over HTTP/1 and HTTP/2 of a listener with http3; empty: no such field")
        .known_as(&["nginx add_header Alt-Svc", "haproxy http-response set-header alt-svc"])
        .when("where clients reach the port under another number, or to try HTTP/3 before it is announced"),
    Key::new(Table::Listener, "proxy_protocol", Kind::Word(&["off", "required"]), Default("off"))
        .help("`required`: every connection begins with a header of the PROXY protocol, version 1 or 2, which tells the client's address")
        .known_as(&["nginx listen proxy_protocol", "haproxy accept-proxy"])
        .when("`required` behind a balancer that sends it, such as HAProxy with `send-proxy-v2`; name the balancer in trusted_proxies"),
    Key::new(Table::Listener, "trusted_proxies", Kind::List(&Kind::Network), Default(""))
        .help("proxies in front that are believed when they tell the client's address and scheme")
        .known_as(&["nginx set_real_ip_from"])
        .when("whenever another proxy stands in front; name only proxies that cannot be gone around"),
    Key::new(Table::Listener, "real_ip_header", Kind::Text, Default("X-Forwarded-For"))
        .help("field in which trusted proxies tell the client's address: X-Forwarded-For, Forwarded (RFC 7239), or one that holds a single address, such as X-Real-IP")
        .known_as(&["nginx real_ip_header"])
        .when("to what the proxy in front writes, and does not let through from clients"),
    Key::new(Table::Listener, "tls", Kind::Form("a table such as { certificates = [{ chain = \"/etc/one-server/site.pem\", key = \"/etc/one-server/site.key\" }] }"), Means("plain text"))
        .help("speak TLS")
        .known_as(&["nginx listen ssl", "haproxy bind ssl"]),
    Key::new(Table::Listener, "access", Kind::List(&Kind::AddressRule), Means("everyone"))
        .help("addresses whose connections are taken or not, the first match decides, no match may; others are closed without an answer")
        .known_as(&["nginx stream allow", "nginx stream deny", "haproxy tcp-request"])
        .when("for TCP mode, and for HTTP where not even an error page is due; `access` of a site answers 403"),
    Key::new(Table::Listener, "tcp", Kind::Form("the name of an upstream, or a table such as { \"db.example.org\" = \"pg\", \"*.example.org\" = \"web\", default = \"other\" }"), Means("HTTP"))
        .help("TCP mode: connections are passed on as they are, all of them to one upstream, or by the name that clients ask for with TLS, which is read without ending TLS here; `default` is for other names, for clients without one and for what is not TLS. Without it these are refused. With `tls` the listener ends TLS itself and passes the plain text on")
        .known_as(&["nginx stream", "nginx ssl_preread", "haproxy mode", "haproxy req_ssl_sni"])
        .when("for protocols other than HTTP, and for HTTPS that ends at the servers"),
    Key::new(Table::Listener, "udp", Kind::Form("the name of an upstream, or a table such as { upstream = \"dns\", responses = 1 }"), Means("TCP"))
        .help("UDP mode: datagrams are passed on to the servers of an upstream. Its TCP port of the same number is another listener's")
        .known_as(&["nginx listen udp", "haproxy dgram-bind"])
        .when("for DNS, syslog, RADIUS, games and whatever else is spoken over UDP"),
    // udp
    Key::new(Table::Udp, "upstream", Kind::Text, Required)
        .help("whose servers get the datagrams; a new flow's server is chosen as `balance`, `hash` (by the client's address), weights, tiers and checks say")
        .known_as(&["nginx proxy_pass", "haproxy use_backend"]),
    Key::new(Table::Udp, "idle_timeout", WAIT, Default("60s"))
        .help("a flow ends when nothing has come from either side for so long")
        .known_as(&["nginx proxy_timeout"])
        .when("up for clients that are silent for long, down where there are many. nginx waits for 10m"),
    Key::new(Table::Udp, "responses", integer(0, 1_000_000), Means("any number"))
        .help("answers to each datagram, after which a flow has ended; 0: none is expected. What lacks of them when the time is up counts as an error of the server")
        .known_as(&["nginx proxy_responses"])
        .when("1 for DNS, 0 for syslog, so that flows do not live until their time-out"),
    Key::new(Table::Udp, "requests", integer(1, 1_000_000_000), Means("any number"))
        .help("datagrams of a client after which its next one begins a new flow, and may get another server")
        .known_as(&["nginx proxy_requests"])
        .when("1 to spread the datagrams of a single client"),
    Key::new(Table::Udp, "flows_max", integer(1, 16_000_000), Default("16384"))
        .help("flows of the listener at once, over all workers; datagrams that would begin more are dropped")
        .known_as(&["nginx worker_connections"])
        .when("each takes a descriptor and a local port, of which Linux gives about 28,000 (net.ipv4.ip_local_port_range)"),
    Key::new(Table::Udp, "flows_per_address_max", integer(0, 16_000_000), Default("0"))
        .help("flows of one client address, IPv6 ones by their /64, over all workers; 0: no limit")
        .known_as(&["nginx limit_conn"])
        .when("against clients that take all flows for themselves; sources that are forged count as many addresses"),
    Key::new(Table::Udp, "datagram_max", size(1, 65_535), Default("65535"))
        .help("longer datagrams are dropped, whoever sends them")
        .known_as(&["nginx proxy_buffer_size"]),
    // tls
    Key::new(Table::Tls, "certificates", Kind::Form("a list of tables such as { chain = \"/etc/one-server/site.pem\", key = \"/etc/one-server/site.key\" }"), Required)
        .help("certificates with their keys; clients without a name get the first one")
        .known_as(&["nginx ssl_certificate", "haproxy bind crt"]),
    Key::new(Table::Tls, "profile", Kind::Word(&["intermediate", "modern"]), Default("intermediate"))
        .help("versions and ciphers by Mozilla's guidelines 6.0: `intermediate` is TLS 1.2 and 1.3, `modern` TLS 1.3 alone")
        .known_as(&["nginx ssl_protocols", "nginx ssl_ciphers", "nginx ssl_ecdh_curve", "nginx ssl_prefer_server_ciphers", "haproxy ssl-default-bind-ciphers", "haproxy ssl-min-ver"])
        .when("`modern` when no client is older than about 2020"),
    Key::new(Table::Tls, "unknown_names", Kind::Word(&["default", "refuse"]), Default("default"))
        .help("what a client gets that asks for a name without certificate: the first certificate, or an alert; who asks for no name gets the first one")
        .known_as(&["nginx ssl_reject_handshake", "haproxy bind strict-sni"])
        .when("`refuse` so that scanners learn no names they did not know"),
    Key::new(Table::Tls, "client_certificates", Kind::Word(&["off", "optional", "required"]), Default("off"))
        .help("whether clients are asked for a certificate; `required` ends the handshake without a good one")
        .known_as(&["nginx ssl_verify_client", "haproxy bind verify"])
        .when("for machines and staff that are known by certificate; nothing is resumed then"),
    Key::new(Table::Tls, "client_ca", Kind::Path, Means("no client certificates"))
        .help("PEM file with the authorities that issue client certificates")
        .known_as(&["nginx ssl_client_certificate", "nginx ssl_trusted_certificate", "haproxy bind ca-file"]),
    Key::new(Table::Tls, "ticket_keys", Kind::Path, Means("a random secret that ends with the process"))
        .help("file with the secrets of session tickets, the newest in the first line; created when missing")
        .known_as(&["nginx ssl_session_ticket_key", "nginx ssl_session_tickets", "nginx ssl_session_cache", "haproxy bind tls-ticket-keys"])
        .when("to let clients resume after a restart and on other nodes, which need the same file"),
    Key::new(Table::Tls, "handshake_timeout", WAIT, Default("10s"))
        .help("from the first byte of a handshake to its end")
        .known_as(&["haproxy timeout client-hs"])
        .when("up for clients on very bad links. nginx waits for client_header_timeout, 60s"),
    // certificates
    Key::new(Table::Certificate, "chain", Kind::Path, Required)
        .help("PEM file: the server's certificate, then those that issued it (fullchain.pem)")
        .known_as(&["nginx ssl_certificate", "haproxy bind crt"]),
    Key::new(Table::Certificate, "key", Kind::Path, Required)
        .help("PEM file of its private key (PKCS#8, PKCS#1 or SEC1, not encrypted); may be the same file")
        .known_as(&["nginx ssl_certificate_key"]),
];
