"""The servers of the comparison: how each one is set up for the job, as its own manual says it is fastest."""

import getpass
import os
import re
import socket
from dataclasses import dataclass

from . import process, proxysql
from .database import SERVER_CONNECTIONS
from .machine import BUILT_IN

# nginx counts upstream connections among these too; HAProxy's counts downstream only.
CONNECTIONS = 2_048
CONNECTIONS_IDLE = 10_900
# Of the row about many of them.
SERVERS_MANY, ROUTES_MANY = 50, 1_000

HAPROXY_HTTP = "    mode http\n    http-reuse always"

# For answers of several buffers: cheaper than its own judgement (`splice-auto`), which copies most of them.
HAPROXY_LARGE = HAPROXY_HTTP + "\n    option splice-response"

# `splice-auto`: by its own judgement, as one-server does it.
HAPROXY_TCP = "    mode tcp\n    option splice-auto"


class Server:
    """What is measured: one or several processes behind one port, and `behind` them applications that belong to it."""

    def __init__(self, name, port, processes, tls=None, behind=()):
        self.name, self.port, self.processes, self.tls = name, port, processes, tls
        self.behind = list(behind)
        self.negotiated = ""  # version, cipher, group and signature, once they are known

    def url(self, path):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def cpu_seconds(self):
        for process_ in self.processes + self.behind:
            if not process_.alive():
                raise process.Failed(f"{self.name} ended by itself:\n{process_.log_tail()}")
        return sum(process_.cpu_seconds() for process_ in self.processes + self.behind)

    def front_seconds(self):
        """Time on a core without applications, whoever has started them."""
        return sum(process_.own_cpu_seconds() for process_ in self.processes)

    def memory_bytes(self):
        sizes = [process_.memory_bytes() for process_ in self.processes]
        return sum(rss for rss, _ in sizes), sum(pss for _, pss in sizes)

    def commands(self):
        return [" ".join(process_.command) for process_ in self.processes + self.behind]

    def wait_ready(self, probe):
        """See `Process.wait_ready`; a server without processes of its own is ready."""
        return self.processes[0].wait_ready(probe) if self.processes else probe()


@dataclass(frozen=True)
class Files:
    """A job of a file server: what it serves, and how. `tls`: a `tls.Identity`."""

    folder: object
    connections: int = CONNECTIONS
    tls: object = None
    http2: bool = False
    precompressed: bool = False


@dataclass(frozen=True)
class Proxied:
    """A job of a proxy: what stands behind it, and how it is asked. `tls`: a `tls.Identity`."""

    backend_port: int
    connections: int = CONNECTIONS
    tls: object = None
    large: bool = False  # answers are larger than a buffer or two
    for_ever: bool = False  # the clients do not put up with a limit of requests per connection


class Starter:
    """Starts servers on one stage. `paths` maps a program's name to its file; configs are kept for the report."""

    def __init__(self, stage, paths, server_core, load_core):
        self.stage, self.paths = stage, paths
        self.server_core, self.load_core = server_core, load_core
        self.configs = {}

    # Static files.

    def static(self, name, files):
        """`name` does the job `files`; the floor answers its 512 bytes whatever the folder holds."""
        port = process.free_port()
        if name == "one-server" and (files.tls or files.precompressed):
            return Server(name, port, [self.one_server_configured(files, port)], files.tls)
        if name == "one-server":
            return self.one_server(["static", files.folder], port)
        if name == "nginx":
            return Server(name, port, [self.nginx_static(files, port)], files.tls)
        return self.floor(self.server_core, port)

    def nginx_static(self, files, port):
        job, location = "static", f"root {files.folder};"
        module = listen = ""
        if files.tls:
            job, listen = "tls", " ssl http2" if files.http2 else " ssl"
            location += "\n" + NGINX_TLS.format(tls=files.tls)
        if files.precompressed:
            job, location = "br", location + " brotli_static on;"
            module = f"load_module {self.paths['nginx-brotli']};"
        return self.nginx(job, port, files.connections, location, "", module, listen)

    def one_server_configured(self, files, port):
        """What no flag of `static` says, in a config file."""
        head = one_server_head(self.server_core, port, files.http2, files.tls)
        precompressed = '"br"' if files.precompressed else ""
        text = ONE_SERVER_FILES.format(head=head, folder=files.folder, precompressed=precompressed)
        return self.one_server_of("one-server", port, text)

    def floor(self, core, port=None, name="floor", host="127.0.0.1"):
        """Of the loopback's addresses it listens on `host`; 0.0.0.0 is all of them."""
        port = port or process.free_port()
        command = [self.paths["floor"], "--listen", f"{host}:{port}", "--core", core]
        return Server(name, port, [self.stage.start(name, command, core)])

    # Proxies.

    def proxy(self, name, job):
        """`name` does the job `job`, a `Proxied`."""
        port = process.free_port()
        if name == "one-server" and not (job.tls or job.for_ever):
            return self.one_server(["proxy", "--to", f"127.0.0.1:{job.backend_port}", "--keep-idle", "512"], port)
        if name == "one-server":
            process_ = self.one_server_proxy(port, [f"127.0.0.1:{job.backend_port}"], ["/"], job.tls)
        elif name == "nginx":
            process_ = self.nginx_proxy(port, job)
        else:
            mode = HAPROXY_LARGE if job.large else HAPROXY_HTTP
            process_ = self.haproxy(port, job.backend_port, job.connections, mode, job.tls)
        return Server(name, port, [process_], job.tls)

    def nginx_proxy(self, port, job):
        upstream = f"upstream backend {{ server 127.0.0.1:{job.backend_port}; keepalive 512; keepalive_requests 1000000000; }}"
        location = 'location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }'
        label = listen = ""
        if job.large:
            label, location = " large", f"{NGINX_LARGE}\n        {location}"
        if job.tls:
            label, listen = " tls", " ssl"
            location = NGINX_TLS.format(tls=job.tls) + "\n        " + location
        return self.nginx("proxy" + label, port, job.connections, location, upstream, "", listen)

    def one_server_proxy(self, port, servers, paths, tls=None):
        """What no flag of `proxy` says, in a config file: each of the paths leads to all of the servers."""
        text = ONE_SERVER_PROXY.format(
            head=one_server_head(self.server_core, port, tls=tls), servers=", ".join(f'"{server}"' for server in servers),
            routes="".join(ONE_SERVER_ROUTE.format(path=path) for path in paths))
        return self.one_server_of("one-server proxy" if len(paths) == 1 else "one-server routes", port, text)

    def routes(self, name, backend_port):
        """`one-server`: 50 addresses of one backend behind 1,000 routes, of which the last one is asked for; `one-route`: one
        address of it behind that route alone."""
        port = process.free_port()
        many = name == "one-server"
        servers = [f"127.0.0.{number}:{backend_port}" for number in range(1, (SERVERS_MANY if many else 1) + 1)]
        paths = [f"/service-{number:04}" for number in range(1 if many else ROUTES_MANY, ROUTES_MANY + 1)]
        return Server(name, port, [self.one_server_proxy(port, servers, paths)])

    # TCP passed on.

    def backend(self, folder):
        """A file server on the load core, which keeps its connections for ever."""
        port = process.free_port()
        config = self.stage.folder / f"backend-{port}.toml"
        config.write_text(ONE_SERVER_FILES.format(head=one_server_head(self.load_core, port), folder=folder, precompressed=""))
        command = [self.paths["one-server"], "run", "-c", config]
        return Server("backend", port, [self.stage.start("backend", command, self.load_core)])

    def tcp(self, name, backend_port, connections=CONNECTIONS):
        """`name` passes connections on to the server on `backend_port`, with splice(2) as soon as it thinks that right."""
        port = process.free_port()
        if name == "one-server":
            text = ONE_SERVER_TCP.format(process=one_server_process(self.server_core), port=port, backend_port=backend_port)
            return Server(name, port, [self.one_server_of("one-server tcp", port, text)])
        return Server(name, port, [self.haproxy(port, backend_port, connections, HAPROXY_TCP)])

    # MySQL.

    def mysql(self, name, database, connections=CONNECTIONS):
        """`one-server` and `proxysql` with primary and replica; HAProxy with the primary, which is all that it can do; `direct`
        is the primary itself, with nobody between."""
        if name == "direct":
            return Server(name, database.primary.port, [])
        port = process.free_port()
        if name == "haproxy":
            return Server(name, port, [self.haproxy(port, database.primary.port, connections, HAPROXY_TCP)])
        if name == "proxysql":
            return Server(name, port, [proxysql.start(self, port, database, connections)])
        head = one_server_process(self.server_core, "connections_max = 12000\n")
        text = ONE_SERVER_MYSQL.format(process=head, port=port, primary=database.primary.port, replica=database.replica.port,
                                       pool_max=SERVER_CONNECTIONS)
        return Server(name, port, [self.one_server_of("one-server mysql", port, text)])

    # Datagrams passed on.

    def echo(self):
        """A server of UDP on the load core, which answers with what it got."""
        port = process.free_port(socket.SOCK_DGRAM)
        command = [self.paths["datagrams"], "--echo", f"127.0.0.1:{port}"]
        return Server("backend", port, [self.stage.start("backend", command, self.load_core)])

    def udp(self, name, backend_port, flow_each):
        """`name` passes datagrams on to the server on `backend_port`: those of a client in one flow, or each in its own, which
        ends with its answer."""
        port = process.free_port(socket.SOCK_DGRAM)
        job = "udp each" if flow_each else "udp"
        if name == "nginx":
            location = f"proxy_pass 127.0.0.1:{backend_port}; {'proxy_responses 1;' if flow_each else ''}"
            path = self.paths["nginx-stream"]
            module = "" if path == BUILT_IN else f"load_module {path};"
            return Server(name, port, [self.nginx(job, port, CONNECTIONS, location, "", module, template=NGINX_STREAM)])
        text = ONE_SERVER_UDP.format(process=one_server_process(self.server_core), port=port, backend_port=backend_port,
                                     responses=", responses = 1" if flow_each else "")
        return Server(name, port, [self.one_server_of(f"one-server {job}", port, text)])

    # The whole chain.

    def chain(self, name):
        """`classic`: nginx, HAProxy and the axum server, three processes; `one-server`: the same router inside it."""
        port = process.free_port()
        if name == "one-server":
            command = [self.paths["chain-app"], "--listen", f"127.0.0.1:{port}", "--core", self.server_core]
            return Server(name, port, [self.stage.start("chain-app", command, self.server_core)])
        app_port, haproxy_port = process.free_port(), process.free_port()
        command = [self.paths["axum-hyper"], "--listen", f"127.0.0.1:{app_port}"]
        app = self.stage.start("axum-hyper", command, self.server_core)
        haproxy = self.haproxy(haproxy_port, app_port, CONNECTIONS)
        nginx = self.nginx_proxy(port, Proxied(haproxy_port))
        return Server(name, port, [nginx, haproxy, app])

    # Programs.

    def one_server(self, words, port):
        """Our defaults but for the core and, like the upstream keep-alive of nginx above, room for idle connections."""
        command = [self.paths["one-server"], *words, "--listen", f"127.0.0.1:{port}", "--data-cores", self.server_core]
        return Server("one-server", port, [self.stage.start("one-server", command, self.server_core)])

    def one_server_of(self, label, port, text):
        """With the config `text`, which the report shows as `label`."""
        config = self.stage.folder / f"one-server-{port}.toml"
        config.write_text(text)
        self.keep(label, config)
        return self.stage.start("one-server", [self.paths["one-server"], "run", "-c", config], self.server_core)

    def nginx(self, job, port, connections, location, upstream, module="", listen="", template=None):
        folder = self.stage.folder / f"nginx-{job.replace(' ', '-')}-{port}"
        folder.mkdir()
        config = folder / "nginx.conf"
        config.write_text((template or NGINX).format(
            user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
            folder=folder, port=port, connections=connections, files=connections * 2, location=location, upstream=upstream,
            module=module, listen=listen))
        self.keep(f"nginx {job}", config)
        command = [self.paths["nginx"], "-p", folder, "-c", config, "-e", folder / "error.log"]
        return self.stage.start("nginx", command, self.server_core)

    def haproxy(self, port, backend_port, connections, mode=HAPROXY_HTTP, tls=None):
        config = self.stage.folder / f"haproxy-{port}.cfg"
        bind = ""
        if tls:  # it wants both in one file
            both = self.stage.folder / "haproxy.pem"
            both.write_text(tls.certificate.read_text() + tls.key.read_text())
            bind = f"ssl crt {both} ssl-min-ver TLSv1.3 curves X25519 "
        config.write_text(HAPROXY.format(mode=mode, port=port, backend_port=backend_port, connections=connections, bind=bind))
        label = {HAPROXY_HTTP: "proxy", HAPROXY_LARGE: "proxy large", HAPROXY_TCP: "tcp"}[mode] + (" tls" if tls else "")
        self.keep(f"haproxy {label}", config)
        return self.stage.start("haproxy", [self.paths["haproxy"], "-db", "-f", config], self.server_core)

    def keep(self, label, config):
        """For the report: the config, with ports and folders that change from run to run taken out, and empty lines."""
        text = "\n".join(line for line in config.read_text().splitlines() if line.strip()) + "\n"
        text = text.replace(str(self.stage.folder), "DIR")
        self.configs.setdefault(label, re.sub(r"(127\.0\.0\.\d+):\d+", r"\1:PORT", text))



def one_server_process(core, more=""):
    """How every config of one-server begins; `more` are further lines of [process]."""
    return f'[process]\ndata_cores = "{core}"\n{more}[admin]\naddress = "off"\n'


def one_server_head(core, port, http2=False, tls=None):
    """The same with the listener of a web server. Its connections have no limit of requests, as nginx's have none."""
    words = ONE_SERVER_TLS.format(tls=tls) + "\n" if tls else ""
    return ONE_SERVER_HEAD.format(process=one_server_process(core), port=port, http2=str(http2).lower(), tls=words)


ONE_SERVER_HEAD = """\
{process}[http]
keep_alive_requests_max = 0
keep_alive_timeout = "1h"
[listener.web]
address = "127.0.0.1:{port}"
http2 = {http2}
{tls}"""

# What a flag of `static` cannot describe.
ONE_SERVER_FILES = """\
{head}[site.files]
[[site.files.route]]
path = "/"
files = {{ root = "{folder}", precompressed = [{precompressed}] }}
"""

ONE_SERVER_TCP = """\
{process}[listener.web]
address = "127.0.0.1:{port}"
tcp = "backend"
[upstream.backend]
servers = "127.0.0.1:{backend_port}"
"""

ONE_SERVER_MYSQL = """\
{process}[mysql.bench]
listen = "127.0.0.1:{port}"
primary = "127.0.0.1:{primary}"
replicas = ["127.0.0.1:{replica}"]
user = "bench"
password = "bench"
pool_max = {pool_max}
"""

ONE_SERVER_UDP = """\
{process}[listener.dns]
address = "127.0.0.1:{port}"
udp = {{ upstream = "backend"{responses} }}
[upstream.backend]
servers = "127.0.0.1:{backend_port}"
"""

ONE_SERVER_PROXY = """\
{head}[upstream.backend]
servers = [{servers}]
keep_idle = 512
[site.proxied]
{routes}"""

ONE_SERVER_ROUTE = """\
[[site.proxied.route]]
path = "{path}"
proxy = "backend"
"""

ONE_SERVER_TLS = 'tls.certificates = [{{ chain = "{tls.certificate}", key = "{tls.key}" }}]'

# No session cache: clients with tickets need none, and it costs a lock and a copy for each session. The rest is said
# because its default differs between versions: one group, so that no hybrid one is chosen; tickets; records of 16 KiB,
# which is what large answers want (small ones fit one record anyway).
NGINX_TLS = """\
        ssl_certificate {tls.certificate};
        ssl_certificate_key {tls.key};
        ssl_protocols TLSv1.3;
        ssl_ecdh_curve X25519;
        ssl_session_tickets on;
        ssl_session_cache none;
        ssl_buffer_size 16k;"""

# Room for a whole answer, where the default is 32 KiB; what does not fit waits in the socket and never in a file.
NGINX_LARGE = "proxy_buffers 16 8k; proxy_max_temp_file_size 0;"

NGINX = """\
{module}
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 3600;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=600s;
    open_file_cache_valid 600s;
    open_file_cache_min_uses 1;
    types {{ text/plain txt; text/html html; application/octet-stream bin; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port}{listen} backlog=4096;
        {location}
    }}
}}
"""

NGINX_STREAM = """\
{module}
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
stream {{
    server {{
        listen 127.0.0.1:{port} udp;
        {location}
    }}
}}
"""

# `no strict-limits`: HAProxy wants two files per connection at once; these connections take turns at the server.
HAPROXY = """\
global
    nbthread 1
    maxconn {connections}
    no strict-limits
defaults
{mode}
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
frontend downstream
    bind 127.0.0.1:{port} {bind}backlog 4096
    default_backend upstream
backend upstream
    server backend 127.0.0.1:{backend_port}
"""
