//! Keys of `[app.NAME]`: in-process applications, and programs that are started and watched.

use std::time::Duration;

use super::super::key::Absent::{Default, Means};
use super::super::key::{FlagOf, Key, Table, duration, integer, size};
use super::super::value::Kind;
use super::{DAY, MIB, MS, TIB, WAIT};

/// What `ini` takes.
pub(in crate::config) const INI: &str = "names with their values, { \"opcache.enable\" = \"1\" }";

const WEEKS: Duration = Duration::from_secs(365 * 86_400);

pub(super) const KEYS: &[Key] = &[
    // [app.NAME]
    Key::new(Table::App, "type", Kind::Word(&["program", "process", "php"]), Default("program"))
        .help("`program`: it runs inside this process; `process`: a command that serves HTTP is started, watched and reloaded, and requests go to it as to an upstream called `app:NAME`; `php`: the same with php-fpm, whose config is written from the keys here, and which is spoken to in FastCGI"),
    Key::new(Table::App, "program", Kind::Text, Means("the table's NAME"))
        .help("name under which the program was registered"),
    Key::new(Table::App, "response_timeout", WAIT, Default("60s"))
        .help("from the complete request head, or the last piece of its body that the client has sent by then, to the head of the application's answer; beyond it 504")
        .flag_of(FlagOf::App, "response-timeout")
        .known_as(&["nginx proxy_read_timeout", "haproxy timeout server", "uwsgi harakiri"])
        .when("up for applications that compute or wait for longer"),
    Key::new(Table::App, "threads", integer(1, 1024), Means("it runs on the application workers"))
        .help("of `program`: for handlers that block or compute for long. It gets so many threads of its own, each of which has one request at a time until its answer is sent, from a queue that they share (`queue_max`); they have a lower priority than the workers (nice 5). Streams of events are not for them")
        .known_as(&["gunicorn threads", "puma threads", "unit threads", "uwsgi threads"])
        .when("to the requests that should run at once: for handlers that compute the cores there are, for those that wait more"),
    // type = "process"
    Key::new(Table::App, "command", Kind::List(&Kind::Text), Means("of `php`: the newest php-fpm in PATH, /usr/sbin or /usr/local/sbin"))
        .help("the words of the command, without a shell. Of `php` the program and flags such as -c or -d; what it serves by is added. `{socket}`, `{port}` and `{instance}` in them stand for where this instance listens and for its number, from 0; `{{` is a brace")
        .known_as(&["supervisord command", "unit executable", "uwsgi http-socket"]),
    Key::new(Table::App, "directory", Kind::Path, Means("that of one-server"))
        .help("working directory of the command")
        .flag_of(FlagOf::App, "directory")
        .known_as(&["supervisord directory", "unit working_directory", "uwsgi chdir"]),
    Key::new(Table::App, "environment", Kind::Form("names with their values, { APP_ENV = \"production\" }"), Means("PATH, LANG, LC_ALL, TZ and HOME of one-server alone"))
        .help("variables of the command; nothing but these and PATH, LANG, LC_ALL, TZ, HOME, PORT is passed on. Placeholders as in `command`")
        .known_as(&["supervisord environment", "unit environment", "uwsgi env"]),
    Key::new(Table::App, "user", Kind::Text, Means("the user of [process], or whoever starts it"))
        .help("whom the command runs as, with all its groups; root alone can start it so. Not where a `process` has `listen = \"socket\"`")
        .flag_of(FlagOf::App, "user")
        .known_as(&["supervisord user", "unit user", "uwsgi uid"]),
    Key::new(Table::App, "group", Kind::Text, Means("the group of the user"))
        .help("its group instead of the user's own one")
        .flag_of(FlagOf::App, "group")
        .known_as(&["unit group", "uwsgi gid"]),
    Key::new(Table::App, "listen", Kind::Word(&["socket", "fd"]), Default("socket"))
        .help("how an instance is told where to listen: `socket`: it binds the Unix socket `{socket}` itself; `fd`: it gets one that listens as descriptor 3 (LISTEN_FDS, as from systemd). With `first_port` neither")
        .known_as(&["systemd Accept", "uwsgi fd-socket"])
        .when("`fd` for programs that can do it: no client waits in vain while one starts"),
    Key::new(Table::App, "first_port", integer(1, 65_535), Means("a Unix socket"))
        .help("for programs that need a TCP port: the first instance listens on it at 127.0.0.1, the others on those behind it, `instances` and `surge` together; `{port}`, and PORT in the environment")
        .flag_of(FlagOf::App, "first-port")
        .when("for programs that know no Unix sockets"),
    Key::new(Table::App, "instances", integer(1, 256), Default("1"))
        .help("processes that serve")
        .flag_of(FlagOf::App, "instances")
        .known_as(&["supervisord numprocs", "unit processes", "uwsgi processes", "puma workers"])
        .when("up to the cores there are, for programs that use one core alone"),
    Key::new(Table::App, "surge", integer(1, 256), Default("1"))
        .help("further instances that may run while others are replaced: the new one serves before the old one is let go")
        .flag_of(FlagOf::App, "surge")
        .when("up to replace many instances faster, where there is memory for them"),
    Key::new(Table::App, "requests_max", integer(1, 1_000_000), Means("any number"))
        .help("requests under way at one instance, of a `program` in the whole process; more wait in a queue")
        .flag_of(FlagOf::App, "requests-max")
        .known_as(&["haproxy maxconn"])
        .when("to the threads or workers of the program"),
    Key::new(Table::App, "ready_path", Kind::UrlPath, Means("a connection, of `fd` an answer to OPTIONS *"))
        .help("path that a new instance must answer, with a status below 400, before it gets requests")
        .flag_of(FlagOf::App, "ready-path")
        .when("for programs that listen before they can answer"),
    Key::new(Table::App, "start_timeout", WAIT, Default("30s"))
        .help("longest time from the start of an instance until it is ready; then it is killed, which counts as a failure")
        .flag_of(FlagOf::App, "start-timeout")
        .known_as(&["supervisord startsecs", "systemd TimeoutStartSec"])
        .when("up for programs that take long to start"),
    Key::new(Table::App, "drain_timeout", WAIT, Default("30s"))
        .help("how long an instance that is replaced may take to finish its requests before it is told to end")
        .flag_of(FlagOf::App, "instance-drain-timeout")
        .known_as(&["uwsgi reload-mercy"])
        .when("up for long requests and WebSockets"),
    Key::new(Table::App, "kill_timeout", WAIT, Default("10s"))
        .help("how long an instance may take to end after SIGTERM, before it and its process group get SIGKILL")
        .flag_of(FlagOf::App, "kill-timeout")
        .known_as(&["supervisord stopwaitsecs", "systemd TimeoutStopSec", "uwsgi worker-reload-mercy"]),
    Key::new(Table::App, "restart_requests", integer(1, 1_000_000_000_000), Means("it is not replaced for that"))
        .help("an instance is replaced after about so many requests, with up to a tenth less by chance")
        .flag_of(FlagOf::App, "restart-requests")
        .known_as(&["gunicorn max_requests", "uwsgi max-requests", "unit requests"])
        .when("for programs that leak"),
    Key::new(Table::App, "restart_memory", size(MIB, TIB), Means("it is not replaced for that"))
        .help("an instance is replaced when the resident memory of its session's processes together is larger; pages they share count for each of them")
        .flag_of(FlagOf::App, "restart-memory")
        .known_as(&["uwsgi reload-on-rss", "granian workers-max-rss"])
        .when("for programs that leak"),
    Key::new(Table::App, "restart_age", duration(Duration::from_secs(1), WEEKS), Means("it is not replaced for that"))
        .help("an instance is replaced when it is about so old, up to a tenth less by chance")
        .flag_of(FlagOf::App, "restart-age")
        .known_as(&["uwsgi max-worker-lifetime", "granian workers-lifetime"]),
    Key::new(Table::App, "restart_on_timeout", Kind::Switch, Means("`true` where `requests_max` is 1, else `false`"))
        .help("an instance that has not answered a request within `response_timeout` gets no more of them; when it has none left, or behind `drain_timeout`, it is stopped (SIGTERM, behind `kill_timeout` SIGKILL), and another one is started")
        .flag_of(FlagOf::App, "restart-on-timeout")
        .known_as(&["gunicorn timeout", "uwsgi harakiri", "roadrunner exec_ttl"])
        .when("`true` for programs that hang for good once a request hangs; their own time limit is better where they have one, because it knows the worker"),
    Key::new(Table::App, "backoff", duration(MS, DAY), Default("200ms"))
        .help("pause behind the first failure of an instance; it doubles with each further one, a quarter more or less by chance. A failure is an end before it was ready, or within `backoff_reset` of that")
        .flag_of(FlagOf::App, "backoff"),
    Key::new(Table::App, "backoff_max", duration(MS, DAY), Default("30s"))
        .help("longest such pause")
        .flag_of(FlagOf::App, "backoff-max"),
    Key::new(Table::App, "backoff_reset", duration(MS, DAY), Default("10s"))
        .help("an instance that was ready for so long has not failed when it ends, and failures before are forgotten")
        .flag_of(FlagOf::App, "backoff-reset")
        .known_as(&["supervisord startsecs"]),
    Key::new(Table::App, "failures_max", integer(1, 1000), Default("5"))
        .help("failures in a row after which the application is `failed`: it is tried every `failed_retry` only, or when `one-server ctl app start NAME` says so")
        .flag_of(FlagOf::App, "failures-max")
        .known_as(&["supervisord startretries", "systemd StartLimitBurst"]),
    Key::new(Table::App, "failed_retry", duration(MS, DAY), Default("60s"))
        .help("how often an application that has failed is tried again")
        .flag_of(FlagOf::App, "failed-retry"),
    Key::new(Table::App, "open_files", integer(16, 1 << 30), Means("as one-server"))
        .help("limit of open files of the command (RLIMIT_NOFILE)")
        .flag_of(FlagOf::App, "open-files"),
    Key::new(Table::App, "processes_max", integer(1, 1 << 22), Means("as one-server"))
        .help("limit of processes and threads of its user (RLIMIT_NPROC)")
        .flag_of(FlagOf::App, "processes-max")
        .known_as(&["uwsgi limit-nproc"]),
    Key::new(Table::App, "address_space_max", size(16 * MIB, TIB), Means("as one-server"))
        .help("limit of the address space of each of its processes (RLIMIT_AS)")
        .flag_of(FlagOf::App, "address-space-max")
        .known_as(&["uwsgi limit-as"]),
    Key::new(Table::App, "output_line_max", size(64, MIB), Default("8KiB"))
        .help("longest line of its output; longer ones are cut")
        .flag_of(FlagOf::App, "output-line-max"),
    // type = "php"
    Key::new(Table::App, "workers", integer(1, 4096), Default("4"))
        .help("requests at once, each in a process of its own; more wait in a queue. php-fpm has one process more, so that checks are answered while all of them are busy")
        .known_as(&["php-fpm pm.max_children"])
        .when("to the memory there is, divided by what a request of the application needs"),
    Key::new(Table::App, "memory_limit", size(MIB, TIB), Means("as php.ini has it"))
        .help("memory of a script")
        .known_as(&["php memory_limit"]),
    Key::new(Table::App, "ini", Kind::Form(INI), Means("as php.ini has it"))
        .help("settings of PHP, which scripts cannot change")
        .known_as(&["php-fpm php_admin_value", "php-fpm php_admin_flag", "unit options"]),
    Key::new(Table::App, "worker_requests", integer(1, 1_000_000_000), Means("any number"))
        .help("requests after which a worker of php-fpm is replaced by another one")
        .known_as(&["php-fpm pm.max_requests", "unit requests"])
        .when("for applications that leak"),
    Key::new(Table::App, "terminate_timeout", duration(Duration::from_secs(1), DAY), Means("any time"))
        .help("how long a script may run; then its worker is ended, and its request is 502. Whole seconds, as PHP counts")
        .known_as(&["php-fpm request_terminate_timeout", "uwsgi harakiri"])
        .when("a little above `response_timeout`, so that nobody works for a client that has its answer"),
    Key::new(Table::App, "slow_timeout", duration(Duration::from_secs(1), DAY), Means("nothing is told"))
        .help("how long a script may run until the log tells where it is; whole seconds")
        .known_as(&["php-fpm request_slowlog_timeout"]),
    Key::new(Table::App, "output_rate", integer(1, 1_000_000), Default("1000"))
        .help("lines of its output that the log takes each second; further ones are dropped and counted")
        .flag_of(FlagOf::App, "output-rate"),
];
