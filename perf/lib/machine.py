"""The machine and the programs of a run: what they are, where they are, and what is missing."""

import glob
import gzip
import os
import platform
import re
import resource
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Program: (environment variable that names another one, Debian package, arguments that print its version, if it is one to name).
# Without a package it is only measured where somebody names it.
PEERS = {
    "nginx": ("NGINX", "nginx", ["-v"]),
    "haproxy": ("HAPROXY", "haproxy", ["-v"]),
    "wrk": ("WRK", "wrk", ["-v"]),
    "h2load": ("H2LOAD", "nghttp2-client", ["--version"]),
    "nghttp": ("NGHTTP", "nghttp2-client", ["--version"]),
    "openssl": ("OPENSSL", "openssl", ["version"]),
    "brotli": ("BROTLI", "brotli", ["--version"]),
    "mariadbd": ("MARIADBD", "mariadb-server", ["--version"]),
    "mariadb-install-db": ("MARIADB_INSTALL_DB", "mariadb-server", None),
    "mariadb": ("MARIADB", "mariadb-client", None),
    "sysbench": ("SYSBENCH", "sysbench", ["--version"]),
    "proxysql": ("PROXYSQL", None, ["--version"]),
    "php-fpm": ("PHP_FPM", "php-fpm", ["-v"]),
    "gunicorn": ("GUNICORN", "gunicorn", ["--version"]),
}
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"  # not on every PATH
# What has no program: (Debian packages, a file of theirs).
SITES = {"wordpress": ("wordpress wordpress-theme-twentytwentythree php-cli php-mysql php-gd curl",
                       "/usr/share/wordpress/wp-includes/version.php")}
# A module of nginx: (environment variable that names its file, Debian package, what the file is called, what `nginx -V` says
# where it is built in).
MODULES = {
    "nginx-brotli": ("NGINX_BROTLI", "libnginx-mod-http-brotli-static", "ngx_http_brotli_static_module.so", None),
    "nginx-stream": ("NGINX_STREAM", "libnginx-mod-stream", "ngx_stream_module.so", "--with-stream"),
}
BUILT_IN = "built in"
# What the load programs share.
LOAD = ["perf/common.rs", "perf/answer_head.rs"]
# Ours: (environment variable, what cargo calls it, where it puts it, what it is made from).
OWN = {
    "one-server": ("ONE_SERVER", ["--bin", "one-server"], "release/one-server", ["src"]),
    "floor": ("FLOOR", ["--example", "floor"], "release/examples/floor", ["perf/floor.rs"]),
    "axum-hyper": ("AXUM_HYPER", ["--example", "axum_hyper"], "release/examples/axum_hyper", ["perf/axum_hyper.rs"]),
    "chain-app": ("CHAIN_APP", ["--example", "chain_app"], "release/examples/chain_app", ["src", "perf/chain_app.rs"]),
    "handshakes": ("HANDSHAKES", ["--example", "handshakes"], "release/examples/handshakes", ["perf/handshakes.rs", *LOAD]),
    "steady": ("STEADY", ["--example", "steady"], "release/examples/steady", ["perf/steady.rs", *LOAD]),
    "datagrams": ("DATAGRAMS", ["--example", "datagrams"], "release/examples/datagrams", ["perf/datagrams.rs", *LOAD]),
}

INTERRUPTS = {
    False: "in the clock of the process they interrupt",
    True: "apart from the processes; that of the server's core is added to the server",
    None: "unknown: this kernel shows no config",
}


class Missing(Exception):
    """Something the run needs is not here. The text says what to do about it."""


def find(names, say):
    """Name to path, for programs and modules; builds what is ours and not there. Missing names all that is not here."""
    paths, missing = {}, []
    for name in names:
        try:
            paths[name] = (peer(name) if name in PEERS else module(name) if name in MODULES
                           else site(name) if name in SITES else own(name, say))
        except Missing as reason:
            missing.append(str(reason))
    if missing:
        raise Missing("\n       ".join(missing))
    return paths


def peer(name):
    """Path of a program that is not ours, from the environment or PATH (and sbin, which is not on every PATH)."""
    variable, package, _ = PEERS[name]
    wanted = os.environ.get(variable, name)
    path = shutil.which(wanted, path=os.environ.get("PATH", "") + ":" + SYSTEM_FOLDERS)
    if path is None and name == "php-fpm":  # Debian has the version in the name
        path = max(glob.glob("/usr/sbin/php-fpm[0-9]*"), default=None)
    if path is None and package is None:
        raise Missing(f"{wanted} is no program that may be run: name a binary of ProxySQL with --proxysql PATH or {variable}=PATH. "
                      "Debian has none, see https://proxysql.com/documentation")
    if path is None:
        raise Missing(f"{wanted}: not found. On Debian: apt-get install {package}; or set {variable}=/path/to/{name}")
    if name == "proxysql" and "ProxySQL" not in (said := version(path, ["--version"])):
        raise Missing(f"{path} is not ProxySQL, which --proxysql or {variable} should name: its --version is {said!r}")
    return os.path.abspath(path)  # servers run in a folder of their own


def module(name):
    """Path of a module of nginx, from the environment or where this nginx says its modules are; BUILT_IN: it needs none."""
    variable, package, file_name, flag = MODULES[name]
    if variable in os.environ:
        path = Path(os.environ[variable])
    else:
        said = subprocess.run([peer("nginx"), "-V"], capture_output=True, text=True, timeout=10)
        if flag in (said.stdout + said.stderr).split():
            return BUILT_IN
        folder = re.search(r"--modules-path=(\S+)", said.stdout + said.stderr)
        path = Path(folder.group(1) if folder else "/usr/lib/nginx/modules", file_name)
    if not path.is_file():
        raise Missing(f"{path}: not found. On Debian: apt-get install {package}; or set {variable}=/path/to/{file_name}")
    return str(path.resolve())


def site(name):
    """The file by which an installed site is known."""
    packages, file = SITES[name]
    if not Path(file).is_file():
        raise Missing(f"{file}: not found. On Debian: apt-get install {packages}")
    return file


def own(name, say):
    """Path of one of our programs, from the environment or the target folder, where cargo builds it if it is not."""
    variable, cargo_names, below_target, sources = OWN[name]
    if variable in os.environ:
        path = shutil.which(os.environ[variable])
        if path is None:
            raise Missing(f"{variable}={os.environ[variable]}: no such program")
        return os.path.abspath(path)
    path = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / below_target
    if not path.exists():
        build(name, cargo_names, say)
    elif path.stat().st_mtime < newest(sources):
        say(f"warning: {path} is older than what it is made from; delete it to have it built again")
    return str(path)


def build(name, cargo_names, say):
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Missing(f"{name} is not built, and cargo is not here to build it: see https://rustup.rs")
    command = [cargo, "build", "--release", *cargo_names]
    say(f"building: {' '.join(command)}")
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise Missing(f"{name} does not build; what cargo said is above")


def newest(sources):
    """When the youngest of these files and folders was written."""
    files = [file for source in sources for file in [ROOT / source, *(ROOT / source).rglob("*.rs")] if file.is_file()]
    return max(file.stat().st_mtime for file in files)


def version(path, arguments):
    """First line a program prints about itself."""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0].strip() if lines else "unknown"


def versions(paths):
    """Program name to version, for the programs a run uses (`paths`: name to path)."""
    found = {}
    for name, path in paths.items():
        if name in PEERS and PEERS[name][2] is None:
            continue  # comes with another one
        elif name in PEERS:
            line = version(path, PEERS[name][2])
            number = re.search(r"\d+\.\d+[\w.+-]*", line)
            found[name] = number.group(0) if number else line
        elif name in MODULES:
            found[name] = path
        elif name in SITES:
            found[name] = first_match(path, r"\$wp_version = '([^']+)'") or "?"
        elif name == "one-server":
            found[name] = version(path, ["--version"])
        else:
            found[name] = "of this source tree"
    if "axum-hyper" in paths:
        found["axum-hyper"] = ", ".join(f"{crate} {locked(crate)}" for crate in ("axum", "hyper", "tokio"))
    return found


def locked(crate):
    """Version of a crate in Cargo.lock."""
    text = (ROOT / "Cargo.lock").read_text()
    match = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', text)
    return match.group(1) if match else "?"


def describe():
    """What the numbers were measured on; a list of (label, value)."""
    cpu = first_match("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine()
    memory_kib = int(first_match("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0)
    hypervisor = "yes" if re.search(r"\bhypervisor\b", read("/proc/cpuinfo")) else "no"
    uname = os.uname()
    return [
        ("cpu", f"{cpu.strip()}, {os.cpu_count()} cores"),
        ("virtual machine", hypervisor),
        ("memory", f"{memory_kib / 1048576:.1f} GiB"),
        ("kernel", f"{uname.sysname} {uname.release} {uname.version}"),
        ("frequency governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "not visible"),
        ("interrupt time", INTERRUPTS[interrupts_apart()]),
        ("load average before", " ".join(f"{load:.2f}" for load in os.getloadavg())),
        ("commit", commit()),
    ]


def interrupts_apart():
    """Whether the kernel leaves interrupt time out of the processes' clocks; None when its config is not to be seen.

    The network's part of a request is largely done in soft interrupts: a kernel built so would make it invisible.
    """
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode(errors="replace")
    except OSError:
        text = read(f"/boot/config-{os.uname().release}")
    return "CONFIG_IRQ_TIME_ACCOUNTING=y" in text.splitlines() if text else None


def commit():
    """Short commit of this tree, with a mark when files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def first_match(path, pattern):
    match = re.search(pattern, read(path))
    return match.group(1) if match else None


def raise_file_limit():
    """Lets this process and its children open as many files as the machine allows; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, 65_536), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
