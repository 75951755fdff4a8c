//! Keys of the top of the file and of `[process]`.

use std::time::Duration;

use super::super::key::Absent::{Default, Means};
use super::super::key::{Key, Table, duration, integer, size};
use super::super::value::Kind;
use super::{DAY, GIB, KIB, MIB};

pub(super) const KEYS: &[Key] = &[
    // above the first table
    Key::new(Table::Top, "include", Kind::List(&Kind::Text), Means("one file"))
        .help("further files, relative to this one; `*` and `?` stand in the last part of a path: \"sites/*.toml\". Each table stands in one of the files")
        .known_as(&["nginx include", "haproxy -f"]),
    // [process]
    Key::new(Table::Process, "data_cores", Kind::Cores, Default("auto"))
        .help("cores of the data workers, one worker on each")
        .flag("data-cores")
        .known_as(&["nginx worker_processes", "nginx worker_cpu_affinity", "haproxy nbthread", "haproxy cpu-map"])
        .when("to leave cores to other programs; auto takes every core the process may use, or half of them with app_placement = \"separate\""),
    Key::new(Table::Process, "app_cores", Kind::Cores, Default("auto"))
        .help("cores of the application workers, one worker on each")
        .flag("app-cores")
        .when("to give applications cores of their own; auto follows app_placement"),
    Key::new(Table::Process, "app_placement", Kind::Word(&["paired", "separate"]), Default("paired"))
        .help("where application workers run: on the core of each data worker, or on cores of their own")
        .flag("app-placement")
        .when("`separate` for applications that compute for longer than about 100 µs per request, so that they do not hold up connections"),
    Key::new(Table::Process, "driver", Kind::Word(&["auto", "io-uring", "epoll"]), Default("auto"))
        .help("kernel interface; auto takes io_uring where the kernel allows it, else epoll with a warning")
        .flag("driver")
        .known_as(&["nginx use"])
        .when("`io-uring` to refuse to start without it, `epoll` to compare the two"),
    Key::new(Table::Process, "ring_entries", integer(256, 32_768), Default("1024"))
        .help("submission queue entries of each ring")
        .flag("ring-entries")
        .when("up when a worker has thousands of connections active at the same time"),
    Key::new(Table::Process, "read_buffer", size(512, MIB), Default("4KiB"))
        .help("first read buffer of a busy connection; it grows up to http.head_max for a long head")
        .flag("read-buffer")
        .known_as(&["nginx client_header_buffer_size", "haproxy tune.bufsize"])
        .when("up when most requests carry cookies or tokens longer than this"),
    Key::new(Table::Process, "stream_buffer", size(4 * KIB, 4 * MIB), Default("64KiB"))
        .help("size of one piece when a body is streamed")
        .flag("stream-buffer")
        .known_as(&["nginx proxy_buffers", "nginx proxy_buffer_size", "nginx client_body_buffer_size"])
        .when("up for few large transfers on fast networks, down to save memory with many slow ones"),
    Key::new(Table::Process, "pipes_max", integer(0, 1 << 16), Default("256"))
        .help("pipes of one data worker through which content goes from socket to socket by splice(2), never copied; what finds none is copied; 0: all is")
        .known_as(&["haproxy maxpipes", "haproxy nosplice", "haproxy option splice-auto", "haproxy option splice-request", "haproxy option splice-response"])
        .when("up where more receivers than this are slow at the same time; a slow one holds a pipe: two descriptors and up to 256 KiB of the kernel's memory"),
    Key::new(Table::Process, "app_spin", duration(Duration::ZERO, Duration::from_millis(10)), Default("0us"))
        .help("how long an application worker looks for work before it sleeps; 0us: not at all")
        .flag("app-spin")
        .when("to about 20us when application workers have cores of their own: a sleeping core takes longer to wake than a request takes; on shared cores it only takes time away from the data worker"),
    Key::new(Table::Process, "app_queue", integer(1, 1 << 20), Default("1024"))
        .help("requests that may wait in front of one application worker")
        .known_as(&["haproxy maxqueue"])
        .when("down to fail early instead of late under overload"),
    Key::new(Table::Process, "app_queue_timeout", duration(Duration::ZERO, DAY), Default("1s"))
        .help("how long a request waits for a place in a full queue before it gets 503")
        .known_as(&["haproxy timeout queue"])
        .when("up for applications with short bursts of slow requests"),
    Key::new(Table::Process, "app_concurrency", integer(1, 1 << 20), Default("1024"))
        .help("requests one application worker runs at the same time")
        .when("down when each request holds much memory or a scarce connection"),
    Key::new(Table::Process, "connections_max", integer(16, 16_000_000), Default("65536"))
        .help("client connections of the whole process; more are refused")
        .flag("connections-max")
        .known_as(&["nginx worker_connections", "haproxy maxconn"])
        .when("up on large machines, together with the limit of open files (`ulimit -n`)"),
    Key::new(Table::Process, "tarpit_max", integer(0, 16_000_000), Default("1024"))
        .help("requests of the whole process that `tarpit` holds back at the same time; more are answered at once")
        .when("up on large machines, well below connections_max: each holds a connection"),
    Key::new(Table::Process, "user", Kind::Text, Means("whoever starts it"))
        .help("whom the process becomes, with all its groups, once root has bound the sockets and opened keys and logs; nothing of root's rights is kept")
        .known_as(&["nginx user", "haproxy user", "haproxy uid"])
        .when("whenever root starts it; the user must be able to read the sites, and renewed certificates"),
    Key::new(Table::Process, "group", Kind::Text, Means("the group of the user"))
        .help("its group instead of the user's own one")
        .known_as(&["haproxy group", "haproxy gid"]),
    Key::new(Table::Process, "private_pids", Kind::Switch, Default("false"))
        .help("programs (`type = \"process\"`, `\"php\"`) see no processes but their own, by numbers of their own, and none outlives one-server and the keeper of programs, not even where both and the process between them are killed at once: a PID namespace, see pid_namespaces(7); takes root (CAP_SYS_ADMIN)")
        .flag("private-pids")
        .known_as(&["unit isolation.namespaces.pid", "systemd PrivatePIDs"])
        .when("true where nothing else, such as a container or systemd, ends all that is left; what writes its number to a file for others to signal writes that of the namespace"),
    Key::new(Table::Process, "control", Kind::Path, Means("`one-server ctl` cannot reach the process"))
        .help("Unix socket on which `one-server ctl` looks at the running process and changes it; it gets mode 0600, and only root and the user of the process are heard")
        .flag("control")
        .when("set it wherever somebody looks after the process, for example /run/one-server.sock"),
    Key::new(Table::Process, "accept_balance", Kind::Switch, Default("true"))
        .help("hand new connections from data workers that have many to those that have clearly fewer; the kernel spreads them by a hash alone")
        .known_as(&["haproxy tune.listener.multi-queue", "nginx accept_mutex"])
        .when("false where connections are short, and the flow of each is to stay on the core that the network card gave it"),
    Key::new(Table::Process, "stats_socket", Kind::Path, Means("HAProxy's runtime protocol is not spoken"))
        .help("Unix socket on which hatop, exporters and scripts for HAProxy look at counters and change servers, in HAProxy's runtime protocol")
        .known_as(&["haproxy stats socket"])
        .when("for tools and scripts that are there; people have `one-server ctl`"),
    Key::new(Table::Process, "stats_socket_mode", Kind::Text, Means("\"600\""))
        .help("permissions of its file, octal: who may connect is heard; it belongs to `user` and `group`")
        .known_as(&["haproxy stats socket mode"])
        .when("\"660\" where an exporter is a member of the group"),
    Key::new(Table::Process, "stats_socket_level", Kind::Word(&["user", "operator", "admin"]), Means("operator"))
        .help("what may be done there: look at counters, at everything, or change servers too")
        .known_as(&["haproxy stats socket level"])
        .when("admin for hatop and scripts that set states and weights"),
    Key::new(Table::Process, "backlog", integer(1, 1 << 20), Default("4096"))
        .help("length of the accept queue of each listening socket, see listen(2); the kernel caps it at net.core.somaxconn")
        .flag("backlog")
        .known_as(&["nginx listen backlog", "haproxy bind backlog"])
        .when("up when connections arrive in bursts and `nstat` shows TcpExtListenOverflows"),
    Key::new(Table::Process, "drain_timeout", duration(Duration::ZERO, DAY), Default("30s"))
        .help("how long a drain (SIGQUIT), also of a process that was taken over (SIGUSR2), waits for requests in flight")
        .flag("drain-timeout")
        .known_as(&["nginx worker_shutdown_timeout", "haproxy hard-stop-after"])
        .when("up for long downloads, down where the service manager waits less"),
    Key::new(Table::Process, "takeover_timeout", duration(Duration::from_millis(100), DAY), Default("60s"))
        .help("how long the process that `one-server upgrade` or SIGUSR2 starts may take until it is ready; else it is ended, and the present one goes on")
        .known_as(&["nginx USR2", "haproxy -sf", "haproxy -x", "haproxy expose-fd listeners"])
        .when("up where the start takes long, for example with thousands of certificates"),
    Key::new(Table::Process, "file_cache", size(0, 64 * GIB), Default("64MiB"))
        .help("memory for small files, per data worker; 0: no cache")
        .flag("file-cache")
        .known_as(&["nginx open_file_cache"])
        .when("up when the site's small files together are larger than this"),
    Key::new(Table::Process, "file_cache_file_max", size(0, 64 * MIB), Default("64KiB"))
        .help("largest file kept in memory; larger ones go out by sendfile(2)")
        .when("seldom: the page cache serves larger files well"),
    Key::new(Table::Process, "file_cache_valid", duration(Duration::ZERO, DAY), Default("1s"))
        .help("how long a cached file is served before its metadata is looked at again")
        .flag("file-cache-valid")
        .known_as(&["nginx open_file_cache_valid"])
        .when("up where files only change with a deployment; 0s to look at every request. nginx's 60s leaves stale files up for a minute"),
];
