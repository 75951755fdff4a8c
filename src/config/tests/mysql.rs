//! `[mysql.NAME]`: accounts, TLS, and what is wrong with them.

use super::*;
use crate::config::model::{CausalReads, MysqlServer, PrimaryRule};
use crate::mysql::protocol::auth::native::{stage1, stage2};
use crate::mysql::protocol::auth::{Method, Verifier};
use crate::mysql::protocol::compressed::Algorithm;

const HEAD: &str = "[mysql.m]\nlisten = \"127.0.0.1:3307\"\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\n";

const SECRET: &str = "user = \"u\"\npassword = \"p\"\n";

#[test]
fn what_every_splitter_needs() {
    check(
        "[mysql.m]",
        &[
            "1:1 missing key `listen` in [mysql.m] | add `listen`: a list; each entry is an address, for example \"127.0.0.1:9000\" or \"unix:/run/app.sock\"",
            "1:1 no servers in [mysql.m] | add `servers = [\"10.0.0.10:3306\", \"10.0.0.11:3306\"]`, or `primary` and `replicas`",
            "1:1 missing key `user` in [mysql.m] | add `user`: a text",
            "1:1 no password in [mysql.m] | add `password_file = \"/etc/one-server/mysql.password\"` or `password`",
        ],
    );
    check(
        &format!("{HEAD}password = \"a\"\npassword_file = \"b\""),
        &["6:1 both `password` and `password_file` in [mysql.m] | keep this one, and take `password` away"],
    );
    check(
        &format!("{HEAD}password = \"\""),
        &["5:12 bad value for `password` in [mysql.m] | it is empty: write a text"],
    );
    check(
        &format!("{HEAD}password = \"a\"\nslaves = []"),
        &[
            "6:1 unknown key `slaves` in [mysql.m] | what mysql calls so is `replicas` here; it takes a list of addresses or of tables such as { address = \"127.0.0.1:3306\", weight = 3 }",
        ],
    );
    check(
        &format!("{HEAD}password = \"a\"\nreplicas = [\"1.1.1.1:1\", \"1.1.1.1:1\", 5, \"x\"]"),
        &[
            "6:26 1.1.1.1:1 stands twice in `replicas` of [mysql.m] | take it away",
            "6:39 bad server in [mysql.m] | it is a whole number: write an address or a table",
            "6:42 bad server in [mysql.m] | `x` is not an address: write IP:PORT or [IPv6]:PORT, for example \"127.0.0.1:8080\"",
        ],
    );
    check(
        &format!(
            "{HEAD}password = \"a\"\nreplicas = [{{ address = \"1.1.1.1:1\", wieght = 2 }}, {{ weight = 2 }}, {{ address = \"1.1.1.1:2\", weight = 999 }}]"
        ),
        &[
            "6:38 unknown key `wieght` in replicas of [mysql.m] | did you mean `weight`? it takes a number from 0 to 256",
            "6:52 missing key `address` in replicas of [mysql.m] | add `address`: an address, for example \"127.0.0.1:9000\" or \"unix:/run/app.sock\"",
            "6:102 bad value for `weight` in replicas of [mysql.m] | 999 is too large: the most is 256",
        ],
    );
    check(
        &format!("{HEAD}password = \"a\"\nbalance = \"least-connections\""),
        &[
            "6:11 bad value for `balance` in [mysql.m] | `least-connections` is not known: write \"least-conn\", \"least-time\", \"round-robin\" or \"random-two\"",
        ],
    );
    check(
        &format!("{HEAD}password = \"a\"\ncausal_reads = \"sesion\""),
        &["6:16 bad value for `causal_reads` in [mysql.m] | `sesion` is not known: did you mean \"session\"?"],
    );
    check(
        &format!("{HEAD}password = \"a\"\nlocal_infile = \"yes\""),
        &["6:16 bad value for `local_infile` in [mysql.m] | `yes` is neither `true` nor `false`"],
    );
    check(
        &format!("{HEAD}password = \"a\"\nlocal_infiles = true"),
        &["6:1 unknown key `local_infiles` in [mysql.m] | did you mean `local_infile`? it takes true or false"],
    );
    check(
        "[mysql.m]\nlisten = []\nprimary = \"127.0.0.1:3306\"\nuser = \"u\"\npassword = \"p\"",
        &["2:10 bad value for `listen` in [mysql.m] | it is empty: name at least one address"],
    );
}

#[test]
fn replicas_and_how_one_is_chosen() {
    let splitter = |lines: &str| config(&format!("{HEAD}password = \"p\"\n{lines}\n")).splitters.remove(0);
    let of = |servers: &[MysqlServer]| -> Vec<(String, u32)> {
        servers.iter().map(|server| (server.address.to_string(), server.weight)).collect()
    };
    let replicas = |lines| of(&splitter(lines).servers[1..]);
    let (a, b) = ("1.1.1.1:1".to_owned(), "unix:/b".to_owned());
    assert_eq!(replicas("replicas = \"1.1.1.1:1\""), [(a.clone(), 1)]);
    let list = "replicas = [{ address = \"1.1.1.1:1\", weight = 3 }, \"unix:/b\"]";
    assert_eq!(replicas(list), [(a.clone(), 3), (b, 1)]);
    assert_eq!(replicas("[[mysql.m.replicas]]\naddress = \"1.1.1.1:1\"\nweight = 0"), [(a, 0)]);
    let default = splitter("");
    assert_eq!((default.balance, default.causal_reads), (Balance::LeastConn, CausalReads::Session));
    assert!(default.read_only_transactions && !splitter("read_only_transactions = \"primary\"").read_only_transactions);
    for (word, level) in [("off", CausalReads::Off), ("node", CausalReads::Node), ("strict", CausalReads::Strict)] {
        assert_eq!(splitter(&format!("causal_reads = \"{word}\"")).causal_reads, level);
    }
}

#[test]
fn a_primary_is_fixed_or_found() {
    let splitter =
        |lines: &str| config(&format!("[mysql.m]\nlisten = \"127.0.0.1:1\"\n{SECRET}{lines}")).splitters.remove(0);
    let fixed = splitter("primary = \"1.1.1.1:1\"\nreplicas = [\"1.1.1.1:2\"]");
    assert_eq!((fixed.primary, fixed.primary_wait), (PrimaryRule::Fixed(0), Duration::ZERO));
    assert_eq!(fixed.servers, ["1.1.1.1:1", "1.1.1.1:2"].map(|text| MysqlServer::new(text.parse().unwrap())));
    let found = splitter("servers = [\"1.1.1.1:1\", \"1.1.1.1:2\"]\nprimary_looks = 4\nprimary_dwell = \"9s\"");
    let rule = PrimaryRule::Found { looks: 4, dwell: Duration::from_secs(9) };
    assert_eq!((found.primary, found.primary_wait, found.servers.len()), (rule, Duration::from_secs(10), 2));
    let weighed = splitter("servers = [\"1.1.1.1:1\", { address = \"1.1.1.1:2\", weight = 0 }]");
    assert_eq!(weighed.servers.iter().map(|server| server.weight).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(splitter("servers = [\"1.1.1.1:1\"]\nprimary_wait = \"0s\"").primary_wait, Duration::ZERO);

    let lines = |lines: &str| format!("{HEAD}password = \"p\"\n{lines}");
    check(
        &lines("servers = [\"1.1.1.1:1\"]\nreplicas = []"),
        &[
            "3:1 `primary` does nothing in [mysql.m] | `servers` names them all, the primary is found among them: take one of the two away",
            "7:1 `replicas` does nothing in [mysql.m] | `servers` names them all, the primary is found among them: take one of the two away",
        ],
    );
    check(
        &lines("primary_looks = 3"),
        &["6:1 `primary_looks` does nothing in [mysql.m] | the primary is fixed: it is for `servers`"],
    );
    check(
        &format!("[mysql.m]\nlisten = \"127.0.0.1:1\"\n{SECRET}servers = []"),
        &["5:11 bad value for `servers` in [mysql.m] | it is empty: name at least one address"],
    );
    let many: Vec<String> = (1..=65).map(|port| format!("\"1.1.1.1:{port}\"")).collect();
    check(
        &format!("[mysql.m]\nlisten = \"127.0.0.1:1\"\n{SECRET}servers = [{}]", many.join(",")),
        &["5:11 bad value for `servers` in [mysql.m] | there are 65 of them: at most 64 are taken"],
    );
}

#[test]
fn accounts_are_compiled() {
    let users = "users = [{ name = \"a\", password = \"x\" }, { name = \"b\", \
                 password = \"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7\", read_only = true, schemas = [\"d\"], clients_max = 3, \
                 access = [\"allow 10.0.0.0/8\", \"deny all\"] }]";
    let config = config(&format!("{HEAD}password = \"p\"\n{users}\n"));
    let splitter = &config.splitters[0];
    let [a, b] = &splitter.users[..] else { panic!("two users") };
    assert_eq!((splitter.account_name(0), splitter.account_name(1), splitter.account_name(2)), ("u", "a", "b"));
    assert_eq!((&a.verifier, a.read_only, a.clients_max), (&Verifier::Password(b"x".to_vec()), false, None));
    assert!(a.access.is_none() && a.schemas.is_empty());
    assert_eq!(
        b.verifier,
        Verifier::NativeHash(stage2(&stage1(b"secret"))),
        "the hash of a password is taken for what it is"
    );
    let stored = "$A$005$01234567890123456789./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcde";
    let digits: String = stored.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [stored.to_owned(), format!("0x{digits}")] {
        let users = format!("users = [{{ name = \"c\", password = \"{form}\" }}]");
        let config = self::config(&format!("{HEAD}password = \"p\"\n{users}\n"));
        assert!(matches!(config.splitters[0].users[0].verifier, Verifier::Sha2Hash(_)), "{form}");
    }
    assert_eq!((b.read_only, b.clients_max, b.schemas.join(",")), (true, Some(3), "d".into()));
    let admits = |text: &str| {
        b.access.as_ref().is_some_and(|rules| rules.admits(crate::guard::Source::Ip(text.parse().unwrap())))
    };
    assert!(admits("10.1.2.3") && !admits("192.0.2.1"));
    assert_eq!(splitter.authentication, Method::Native);
    let shown = format!("{splitter:?}");
    assert!(!shown.contains("14E6") && !shown.contains("120"), "no secret is ever shown: {shown}");
}

#[test]
fn slow_logs_rules_and_pools_are_compiled() {
    use crate::config::model::{MysqlRoute, MysqlSlowLog};
    let rules = "slow_log = \"/slow.log\"\nserver_connections_max = 9\npool_min = 2\n\
                 [[mysql.m.users]]\nname = \"v\"\npassword = \"p\"\nserver_connections_max = 4\n\
                 [[mysql.m.rules]]\nusers = [\"v\"]\ndigest = \"SELECT * FROM a.b(?)*\"\nroute = \"replica\"\nunsafe = true\n\
                 [[mysql.m.rules]]\nname = \"old\"\ndigest_regex = \"^DELETE\"\nrewrite = \"x(.)\"\nrewrite_to = \"${1}y\"\ntime_limit = \"5s\"\n\
                 route = \"primary\"\nclients = [\"10.0.0.0/8\"]\nunpinned = true\n";
    let config = config(&format!("{HEAD}password = \"p\"\n{rules}"));
    let splitter = &config.splitters[0];
    assert_eq!(
        splitter.slow_log,
        Some(MysqlSlowLog {
            target: LogTarget::File("/slow.log".into()),
            threshold: Duration::from_secs(1),
            digest_only: false,
            text_bytes_max: 1024
        })
    );
    assert_eq!((splitter.server_connections_max, splitter.users[0].server_connections_max), (Some(9), Some(4)));
    assert_eq!((splitter.pool_min, splitter.pool_age_max), (2, Some(Duration::from_secs(3600))));
    let [first, second] = &splitter.rules[..] else { panic!("two rules") };
    assert_eq!((first.name.as_str(), &first.accounts[..], first.route), ("rule 1", &[1][..], Some(MysqlRoute::Unsafe)));
    let is_match = |text: &[u8]| first.digest.as_ref().is_some_and(|pattern| pattern.is_match(text));
    assert!(is_match(b"SELECT a FROM a.b(?) WHERE x") && is_match(b"select FROM x FROM A.B(?)"));
    assert!(
        !is_match(b"SELECT a FROM aXb(?)") && !is_match(b"(SELECT a FROM a.b(?))") && !is_match(b"SELECT a FROM a.b(?")
    );
    assert_eq!((second.name.as_str(), second.time_limit), ("old", Some(Duration::from_secs(5))));
    assert!(second.unpinned && !first.unpinned);
    assert!(second.clients.is_some() && second.rewrite.as_ref().is_some_and(|(_, with)| with == "${1}y"));
}

#[test]
fn mistakes_of_slow_logs_rules_and_pools() {
    let rule = |rule: &str| format!("{HEAD}password = \"p\"\nrules = [{{ {rule} }}]");
    check(
        &rule("digest = \"x\""),
        &[
            "6:10 a rule without an action in rules of [mysql.m] | add `route`, `reject`, `rewrite`, `time_limit` or `unpinned`",
        ],
    );
    check(
        &rule("route = \"primary\", reject = \"no\""),
        &["6:12 both `reject` and `route` in rules of [mysql.m] | what is refused does not run: take one away"],
    );
    check(
        &rule("route = \"primary\", unsafe = true"),
        &[
            "6:40 bad value for `unsafe` in rules of [mysql.m] | it says what may go to replicas: write `route = \"replica\"` beside it",
        ],
    );
    check(
        &rule("users = [\"uu\"], route = \"primary\""),
        &["6:21 unknown user `uu` in rules of [mysql.m] | no account of the splitter has this name"],
    );
    check(
        &rule("rewrite = \"a\""),
        &["6:10 missing key `rewrite_to` in rules of [mysql.m] | add `rewrite_to`: a text"],
    );
    check(
        &rule("rewrite = \"a(\", rewrite_to = \"b\""),
        &["6:22 bad value for `rewrite` in rules of [mysql.m] | unclosed group"],
    );
    check(
        &rule("rewrite = \"a\", rewrite_to = \"$1b\""),
        &[
            "6:40 bad value for `rewrite_to` in rules of [mysql.m] | `$1b` is no capture of `rewrite`: write `${1}` where letters follow, `$$` for a dollar sign",
        ],
    );
    check(
        &rule("digest = \"a\", digest_regex = \"b\", route = \"primary\""),
        &["6:26 both `digest` and `digest_regex` in rules of [mysql.m] | write one of them"],
    );
    check(
        &rule("rout = \"primary\""),
        &["6:12 unknown key `rout` in rules of [mysql.m] | did you mean `route`? it takes \"primary\" or \"replica\""],
    );
    let lines = |lines: &str| format!("{HEAD}password = \"p\"\n{lines}");
    check(
        &lines("slow_log = { threshold = \"1s\" }"),
        &["6:12 missing key `file` in slow_log of [mysql.m] | add `file`: \"stdout\", a file, or \"off\""],
    );
    check(
        &lines("slow_log = 5"),
        &[
            "6:12 slow_log of [mysql.m] is not a table | it is a whole number, but must be a table: slow_log of [mysql.m]",
        ],
    );
    check(
        &lines("pool_min = 5\npool_max = 4"),
        &["6:12 bad value for `pool_min` in [mysql.m] | it is more than there may be: at most 4, or raise `pool_max`"],
    );
    check(
        &lines("pool_min = 5\nserver_connections_max = 3"),
        &[
            "6:12 bad value for `pool_min` in [mysql.m] | it is more than there may be: at most 3, or raise `server_connections_max`",
        ],
    );
}

#[test]
fn mistakes_of_accounts_and_tls() {
    let lines = |lines: &str| format!("{HEAD}password = \"p\"\n{lines}");
    check(
        &lines("users = [{ name = \"u\", password = \"x\" }]"),
        &["6:19 user `u` stands twice in [mysql.m] | each account has one entry, and `user` needs none: take one away"],
    );
    check(
        &lines("users = [{ password = \"x\" }, { name = \"b\" }, \"c\"]"),
        &[
            "6:10 missing key `name` in users of [mysql.m] | add `name`: a text",
            "6:30 no password in users of [mysql.m] | add `password_file = \"/etc/one-server/mysql.password\"` or `password`",
            "6:46 bad user in [mysql.m] | it is a text: write a table with `name` and `password_file`",
        ],
    );
    check(
        &lines("users = [{ name = \"b\", password = \"x\", readonly = true }]"),
        &["6:40 unknown key `readonly` in users of [mysql.m] | did you mean `read_only`? it takes true or false"],
    );
    check(
        &lines("tls_required = true"),
        &["6:1 `tls_required` of [mysql.m] lets nobody in | no TLS is offered: add `tls` with a certificate"],
    );
    check(
        &lines("server_tls = 5"),
        &[
            "6:14 bad value for `server_tls` in [mysql.m] | it is a whole number: write true, false, or a table such as { server_name = \"api.internal\" }",
        ],
    );
    check(
        &lines("authentication = \"native\""),
        &[
            "6:18 bad value for `authentication` in [mysql.m] | `native` is not known: write \"mysql_native_password\", \"caching_sha2_password\" or \"client_ed25519\"",
        ],
    );
}

#[test]
fn how_clients_come_and_how_servers_are_spoken_to() {
    let splitter = |lines: &str| config(&format!("{HEAD}password = \"p\"\n{lines}\n")).splitters.remove(0);
    let plain = splitter("");
    assert_eq!((plain.socket_mode, plain.proxy_protocol, &plain.trusted_proxies), (0o660, false, &None));
    let socket = |mode: &str| {
        format!(
            "[mysql.m]\nlisten = [\"127.0.0.1:1\", \"unix:/run/db.sock\"]\nprimary = \"127.0.0.1:3306\"\n{SECRET}\
             socket_mode = \"{mode}\"\n"
        )
    };
    assert_eq!(config(&socket("0666")).splitters[0].socket_mode, 0o666);
    check(
        &socket("rw"),
        &["6:15 bad value for `socket_mode` in [mysql.m] | write permissions in octal, for example \"660\""],
    );
    check(
        &format!("{HEAD}password = \"p\"\nsocket_mode = \"666\""),
        &["6:1 `socket_mode` does nothing in [mysql.m] | there is no Unix socket in `listen`: take it away"],
    );
    let behind = splitter("proxy_protocol = \"required\"\ntrusted_proxies = [\"10.0.0.0/8\"]");
    let proxies = behind.trusted_proxies.expect("some");
    assert!(behind.proxy_protocol && proxies.contains([10, 1, 2, 3].into()) && !proxies.contains([11, 1, 2, 3].into()));
    check(
        &format!("{HEAD}password = \"p\"\ntrusted_proxies = [\"10.0.0.0/8\"]"),
        &["6:1 `trusted_proxies` does nothing in [mysql.m] | no header is read: add `proxy_protocol = \"required\"`"],
    );
    let warned = warnings(&format!("{HEAD}password = \"p\"\nproxy_protocol = \"required\""));
    assert!(warned.iter().any(|warning| warning.contains("believes the PROXY header of everyone")), "{warned:?}");

    let of = |lines: &str| -> Vec<Option<&str>> {
        splitter(lines).servers.iter().map(|server| server.compression.map(Algorithm::name)).collect()
    };
    let replicas = "replicas = [\"1.1.1.1:1\", { address = \"1.1.1.1:2\", compression = \"zstd\" }, \
                    { address = \"1.1.1.1:3\", compression = \"off\" }]";
    assert_eq!(of(replicas), [None, None, Some("zstd"), None]);
    let zlib = of(&format!("server_compression = \"zlib\"\n{replicas}"));
    assert_eq!(zlib, [Some("zlib"), Some("zlib"), Some("zstd"), None]);
    check(
        &format!("{HEAD}password = \"p\"\nserver_compression = \"gzip\""),
        &[
            "6:22 bad value for `server_compression` in [mysql.m] | `gzip` is not known: write \"off\", \"zlib\" or \"zstd\"",
        ],
    );
}
