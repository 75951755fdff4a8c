//! `[upstream.NAME]` and the tables in it.

use super::*;

#[test]
fn upstreams() {
    let check = |lines: &str, expect: &[&str]| check(&upstream(lines), expect);
    check(
        "",
        &[
            "6:1 missing key `servers` in [upstream.u] | add `servers`: a list of addresses or of tables such as { address = \"127.0.0.1:9000\", weight = 2 }",
        ],
    );
    check("servers = []", &["7:11 bad value for `servers` in [upstream.u] | it is empty: name at least one server"]);
    check("servers = [5]", &["7:12 bad server in [upstream.u] | it is a whole number: write an address or a table"]);
    check(
        "servers = [\"/run/a.sock\"]",
        &["7:12 bad server in [upstream.u] | a Unix socket is written with `unix:` in front: \"unix:/run/a.sock\""],
    );
    check("servers = [\"unix:\"]", &["7:12 bad server in [upstream.u] | the path after `unix:` is empty"]);
    check(
        &format!("servers = [\"unix:/{}\"]", "a".repeat(107)),
        &["7:12 bad server in [upstream.u] | the path of a Unix socket has at most 107 bytes"],
    );
    check(
        "servers = [{ weight = 300 }]",
        &[
            "7:12 no address in one of the servers of [upstream.u] | add `address`, for example \"127.0.0.1:9000\" or \"app.internal:9000\", or `srv`",
            "7:23 bad value for `weight` in servers of [upstream.u] | 300 is too large: the most is 256",
        ],
    );
    check(
        "servers = [{ address = \"1.1.1.1:1\", backup = true }]",
        &["7:11 [upstream.u] has only backup servers | take `backup` away from at least one server"],
    );
    check(
        "servers = \"1.1.1.1:1\"\nretry_on = [\"error\", \"http_502\", \"200\"]\nretry_budget = \"120%\"",
        &[
            "8:22 bad value for `retry_on` in [upstream.u] | `http_502` is none of `error`, `timeout`, `non_idempotent` and statuses from 400 to 599",
            "8:34 bad value for `retry_on` in [upstream.u] | `200` is none of `error`, `timeout`, `non_idempotent` and statuses from 400 to 599",
            "9:16 bad value for `retry_budget` in [upstream.u] | `120%` is no share: write one such as \"20%\", or \"off\"",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nupgrade = [\"websocket\", \"h2c\", \"web socket\"]",
        &[
            "8:25 bad value for `upgrade` in [upstream.u] | a server that switched to HTTP/2 would speak past every rule for requests: leave it out",
            "8:32 bad value for `upgrade` in [upstream.u] | `web socket` is no name of a protocol: write one such as \"websocket\"",
        ],
    );
    check(
        "[[upstream.u.servers]]\nadress = \"1.1.1.1:1\"",
        &[
            "8:1 unknown key `adress` in servers of [upstream.u] | did you mean `address`? it takes an address, for example \"127.0.0.1:9000\", \"app.internal:9000\" or \"unix:/run/app.sock\"",
        ],
    );
    assert_eq!(
        warnings(&upstream("servers = [\"1.1.1.1:1\", \"1.1.1.1:1\"]")),
        ["1.1.1.1:1 is named twice in [upstream.u]"]
    );
    assert_eq!(warnings("[upstream.idle]\nservers = \"1.1.1.1:1\""), ["[upstream.idle] is used by no route"]);
}

#[test]
fn tls_towards_servers() {
    let check = |lines: &str, expect: &[&str]| check(&upstream(lines), expect);
    let secure = |lines: &str, expect: &[&str]| check(&format!("servers = \"1.1.1.1:1\"\n{lines}"), expect);
    secure(
        "tls = 5",
        &[
            "8:7 bad value for `tls` in [upstream.u] | it is a whole number: write true, false, or a table such as { server_name = \"api.internal\" }",
        ],
    );
    secure(
        "tls = { server_nam = \"a\" }",
        &["8:9 unknown key `server_nam` in tls of [upstream.u] | did you mean `server_name`? it takes a text"],
    );
    secure(
        "tls = { server_name = \"a b\" }",
        &["8:23 bad value for `server_name` in tls of [upstream.u] | `a b` is neither a host name nor an address"],
    );
    secure(
        "tls = { chain = \"a.pem\" }",
        &["8:17 bad value for `chain` in tls of [upstream.u] | add `key`, the private key that belongs to it"],
    );
    secure(
        "tls = { key = \"a.key\" }",
        &["8:15 bad value for `key` in tls of [upstream.u] | add `chain`, the certificate that it belongs to"],
    );
    check(
        "servers = \"unix:/run/a.sock\"\ntls = true",
        &[
            "8:7 tls of [upstream.u] has no name | a Unix socket has no address that a certificate could be for: add `server_name`",
        ],
    );
}

#[test]
fn health_checks() {
    let check = |lines: &str, expect: &[&str]| check(&upstream(lines), expect);
    check(
        "servers = \"1.1.1.1:1\"\nhealth = 5",
        &[
            "8:10 bad value for `health` in [upstream.u] | it is a whole number: write true, false, or a table such as { path = \"/healthz\" }",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { pth = \"/\" }",
        &[
            "8:12 unknown key `pth` in health of [upstream.u] | did you mean `path`? it takes a path that begins with `/`, for example \"/healthz\"",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { path = \"healthz\", rise = 0 }",
        &[
            "8:19 bad value for `path` in health of [upstream.u] | a path begins with `/`: write \"/healthz\"",
            "8:37 bad value for `rise` in health of [upstream.u] | 0 is too small: the least is 1",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { status = [\"2xx\", \"20\"], expect_body = \"~(\", path = \"/\", method = \"HEAD\" }",
        &[
            "8:29 bad value for `status` in health of [upstream.u] | `20` is no status: write \"200\", \"2xx\" or \"200-299\"",
            "8:50 bad value for `expect_body` in health of [upstream.u] | an answer to HEAD has no body: write method = \"GET\"",
            "8:50 bad value for `expect_body` in health of [upstream.u] | unclosed group",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { path = \"/\", headers = { Host = \"a\", Connection = \"close\", \"a b\" = \"c\", X = 5 } }",
        &[
            "8:36 bad field `Host` in headers of health of [upstream.u] | write it as `host`",
            "8:48 bad field `Connection` in headers of health of [upstream.u] | a check writes it itself",
            "8:70 bad field `a b` in headers of health of [upstream.u] | a name has letters, digits and `-`",
            "8:87 bad field `X` in headers of health of [upstream.u] | it is a whole number: write a text",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { host = \"a\", expect = \"x\", user = \"u\", ca = \"/x\" }",
        &[
            "8:12 `host` does nothing in a check of kind tcp in health of [upstream.u] | add a `path`, such as \"/healthz\"",
            "8:38 `user` does nothing in a check of kind tcp in health of [upstream.u] | add kind = \"mysql\"",
            "8:50 `ca` does nothing in a check without TLS in health of [upstream.u] | write kind = \"tls\"",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\nhealth = { kind = \"http\", send = \"x\", ca = \"/x\" }",
        &[
            "8:27 `send` does nothing in a check of kind http in health of [upstream.u] | it is for kind = \"tcp\" or \"tls\" or \"udp\": take it away",
            "8:39 `ca` does nothing in a check without TLS in health of [upstream.u] | add tls = true",
        ],
    );
    check(
        "servers = \"unix:/a\"\nhealth = { kind = \"mysql\", password = \"p\", check_port = 1 }",
        &[
            "7:11 unix:/a cannot be checked at port 1 in [upstream.u] | give it a `check_address`, or take `check_port` away from `health`",
            "8:28 `password` without `user` in health of [upstream.u] | add `user`, who logs on with it",
        ],
    );
    assert_eq!(
        warnings(&upstream("servers = \"1.1.1.1:1\"\nhealth = { kind = \"mysql\" }")),
        ["checks of kind mysql without `user` in health of [upstream.u]"]
    );
    assert_eq!(
        warnings(&upstream("servers = [{ address = \"1.1.1.1:1\", check_address = \"1.1.1.1:2\" }]\nhealth = false")),
        ["`check_address` in [upstream.u] does nothing"]
    );
}

#[test]
fn outliers() {
    let check = |lines: &str, expect: &[&str]| check(&upstream(lines), expect);
    check(
        "servers = \"1.1.1.1:1\"\noutliers = 5\npanic = 101",
        &[
            "8:12 bad value for `outliers` in [upstream.u] | it is a whole number: write true, false, or a table such as { consecutive = 5, ejection_time = \"30s\" }",
            "9:9 bad value for `panic` in [upstream.u] | 101 is too large: the most is 100",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\noutliers = { failures = [\"5xxx\"], latency_factor = 1, ejection_max = \"1s\" }",
        &[
            "8:26 bad value for `failures` in outliers of [upstream.u] | `5xxx` is not known: did you mean \"5xx\"?",
            "8:52 bad value for `latency_factor` in outliers of [upstream.u] | half of the servers are slower than the median: write 2 or more, or 0",
            "8:70 bad value for `ejection_max` in outliers of [upstream.u] | it is shorter than `ejection_time`",
        ],
    );
    check(
        "servers = \"1.1.1.1:1\"\noutliers = { consecutive = 0, error_rate = 0 }",
        &[
            "8:12 outliers of [upstream.u] eject nothing | set one of `consecutive`, `error_rate` and `latency_factor`, or write outliers = false",
        ],
    );
    assert_eq!(
        warnings(&upstream("servers = \"1.1.1.1:1\"\noutliers = true")),
        ["`outliers` of [upstream.u] does nothing"]
    );
}

#[test]
fn choosing_a_server() {
    let check = |lines: &str, expect: &[&str]| {
        check(&upstream(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.2:1\"]\n{lines}")), expect)
    };
    check(
        "balance = \"random\"",
        &[
            "8:11 bad value for `balance` in [upstream.u] | `random` is not known: write \"random-two\", \"round-robin\", \"least-conn\", \"least-time\", \"first\" or \"local\"",
        ],
    );
    check(
        "hash = \"path\"",
        &[
            "8:8 bad value for `hash` in [upstream.u] | it has no variable: all requests would go to one server. Write such as \"$remote_addr\"",
        ],
    );
    check(
        "hash = \"$remot_addr\"",
        &["8:9 bad value for `hash` in [upstream.u] | `$remot_addr` is not known: did you mean `$remote_addr`?"],
    );
    check(
        "hash = { load_max = 100 }",
        &[
            "8:8 missing key `key` in hash of [upstream.u] | add `key`: a text",
            "8:21 bad value for `load_max` in hash of [upstream.u] | 100 is too small: the least is 101",
        ],
    );
    check(
        "hash = true",
        &[
            "8:8 bad value for `hash` in [upstream.u] | it is `true`: write a text such as \"$remote_addr\", or a table such as { key = \"$request_uri\" }",
        ],
    );
    let tier_min = "write a number of servers, such as 2, or a share from \"1%\" to \"100%\"";
    for (value, extra) in [("0", ""), ("\"0%\"", ""), ("\"101%\"", ""), ("\"some\"", "")] {
        check(
            &format!("tier_min = {value}{extra}"),
            &[&format!("8:12 bad value for `tier_min` in [upstream.u] | {tier_min}")],
        );
    }
    check(
        "fail_back = \"later\"",
        &[
            "8:13 bad value for `fail_back` in [upstream.u] | `later` is not a duration: write a number and one of us, ms, s, m, h, d, for example \"30s\", or \"at-once\" or \"manual\"",
        ],
    );
    let servers = |servers: &str, expect: &[&str]| super::check(&upstream(&format!("servers = [{servers}]")), expect);
    servers(
        "{ address = \"1.1.1.1:1\", backup = true, tier = 2 }, \"1.1.1.2:1\"",
        &[
            "7:52 one of the servers of [upstream.u] is a backup and of a tier | a backup is of the last tier: keep one of the two",
        ],
    );
    servers(
        "{ address = \"1.1.1.1:1\", weight = 0 }",
        &["7:11 no server of [upstream.u] takes new requests | give at least one a `weight` above 0"],
    );
    let warned = |lines: &str| warnings(&upstream(&format!("servers = [\"1.1.1.1:1\", \"1.1.1.2:1\"]\n{lines}"))).len();
    assert_eq!([warned("fail_back = \"manual\""), warned("tier_min = 2")], [1, 1]);
    assert_eq!(warned("balance = \"first\""), 1);
    assert_eq!([warned("queue_max = 5"), warned("queue_timeout = \"1s\"\nrequests_max = 5")], [1, 0]);
    assert_eq!(
        warnings(&upstream("servers = \"unix:/run/a.sock\"\nqueue_timeout = \"1s\"")).len(),
        0,
        "for its backlog"
    );
    assert_eq!([warned("health = false\nslow_start = \"1s\""), warned("slow_start = \"1s\"")], [1, 0]);
}

#[test]
fn sticky_cookies() {
    let check = |sticky: &str, expect: &[&str]| {
        check(&upstream(&format!("servers = \"1.1.1.1:1\"\nsticky = {sticky}")), expect);
    };
    check(
        "\"srv\"",
        &["8:10 sticky of [upstream.u] is not a table | it is a text, but must be a table: sticky of [upstream.u]"],
    );
    check(
        "{ cokie = \"srv\" }",
        &[
            "8:10 no secret in sticky of [upstream.u] | add `secret_file` or `secret`: whoever knows it can choose servers. `openssl rand -base64 24` makes one",
            "8:12 unknown key `cokie` in sticky of [upstream.u] | did you mean `cookie`? it takes a text",
        ],
    );
    check(
        "{ cookie = \"a b\", secret = \"short\", same_site = \"none\", secure = \"never\" }",
        &[
            "8:21 bad value for `cookie` in sticky of [upstream.u] | the name of a cookie has letters, digits, `-` and `_`",
            "8:37 bad value for `secret` in sticky of [upstream.u] | it has 5 bytes, which can be found by trying: write 16 at least",
            "8:58 bad value for `same_site` in sticky of [upstream.u] | browsers take `none` only with `Secure`: take `secure = \"never\"` away",
        ],
    );
    check(
        "{ cookie = \"a\", secret = \"0123456789abcdef\", secret_file = \"/x\", domain = \"a;b\" }",
        &[
            "8:55 both `secret` and `secret_file` in sticky of [upstream.u] | keep this one, and take `secret` away",
            "8:84 bad value for `domain` in sticky of [upstream.u] | it cannot stand in a cookie: write visible ASCII without spaces and `;`",
        ],
    );
}
