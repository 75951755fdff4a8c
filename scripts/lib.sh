# Shared by the scripts of this folder; sourced, not run.
#
#   say TEXT…                 one line to the person at the terminal (standard error)
#   die TEXT…                 the same, then end with status 1
#   as_root COMMAND…          run it as root: directly, or through sudo
#   need PACKAGE COMMAND…     install the Debian package unless every command exists
#   need_venv PACKAGE…        put these Python packages (NAME==VERSION) into target/python, unless they are there
#   need_npm PACKAGE…         put these Node packages (NAME@VERSION) into target/node, unless they are there
#   need_mysql                put MySQL's server and client (target/mysql/mysqld, …/mysql) there, unless it is there; status 1: it cannot be
#   need_python MODULE        install the Debian package python3-MODULE unless /usr/bin/python3 has the module
#   need_rust [COMPONENT…]    check cargo and rustup components, add missing components

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Debian leaves the server programs out of an ordinary user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.cargo/bin
export PATH

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "error: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $* (run this script as root, or install sudo)"
    fi
}

need() {
    local package=$1 command missing=
    shift
    for command in "$@"; do
        command -v "$command" >/dev/null || missing="$missing $command"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        die "missing:$missing. There is no apt-get here; install what Debian calls '$package' and start again"
    say "installing the Debian package $package (missing:$missing)"
    install_package "$package"
    for command in "$@"; do
        command -v "$command" >/dev/null || die "$package is installed, but $command is still missing"
    done
}

# Debian's Python, whichever one comes first in PATH.
need_python() {
    /usr/bin/python3 -c "import $1" 2>/dev/null && return 0
    command -v apt-get >/dev/null || die "missing: the module $1 of /usr/bin/python3"
    say "installing the Debian package python3-$1"
    install_package "python3-$1"
    /usr/bin/python3 -c "import $1" || die "python3-$1 is installed, but /usr/bin/python3 cannot import $1"
}

# Debian starts a server as soon as it is installed, and at every boot. We only want the program: a policy-rc.d that
# answers 101 ("action forbidden") stands in the way of the start, and the unit is disabled afterwards.
install_package() {
    local package=$1 policy=/usr/sbin/policy-rc.d
    if [ -z "${apt_updated:-}" ]; then
        as_root apt-get update -qq || die "apt-get update failed"
        apt_updated=1
    fi
    (
        if [ ! -e "$policy" ]; then
            trap 'as_root rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
            as_root chmod 755 "$policy"
        fi
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$package" >&2
    ) || die "apt-get install $package failed"
    if [ -d /run/systemd/system ]; then
        case $package in
            php-fpm) for unit in /lib/systemd/system/php*-fpm.service; do as_root systemctl disable --now --quiet "${unit##*/}" || true; done ;;
            mariadb-server) as_root systemctl disable --now --quiet mariadb.service || true ;;
            nginx | haproxy | prometheus | prometheus-haproxy-exporter) as_root systemctl disable --now --quiet "$package.service" || true ;;
        esac
    fi
}

# Python's own environments, so that nothing of the machine changes. What is in it is written down beside it.
need_venv() {
    local folder=$root/target/python wanted="$*"
    [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ] && return 0
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || install_package python3-venv
    say "installing Python packages into ${folder#"$root"/}: $wanted"
    python3 -m venv "$folder" || die "python3 cannot make an environment in $folder"
    "$folder/bin/python3" -m pip install --quiet --disable-pip-version-check "$@" >&2 || die "pip install $wanted failed"
    printf '%s' "$wanted" >"$folder/installed"
}

# The same for Node: tests find the packages by NODE_PATH. No package may run code of its own while it is installed.
need_npm() {
    local folder=$root/target/node wanted="$*"
    [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ] && return 0
    need nodejs node
    need npm npm
    say "installing Node packages into ${folder#"$root"/}: $wanted"
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error "$@" >&2 ||
        die "npm install $wanted failed"
    printf '%s' "$wanted" >"$folder/installed"
}

# MySQL itself, which no release of Debian has: out of Debian's unstable archive, with the libraries it was built for and
# their own loader, into a folder of its own. apt and dpkg work on that folder alone, so nothing of the machine changes, and root
# is not needed; what is fetched is checked with Debian's keys. Unstable may be in transition on any day: then status 1 and
# one line that says so, and those who wanted it go on without.
need_mysql() {
    local folder=$root/target/mysql keys=/usr/share/keyrings/debian-archive-keyring.gpg
    local wanted='mysql-server-core mysql-server mysql-client-core'
    [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ] && return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && [ -e "$keys" ] ||
        { say "no MySQL: it is taken from Debian's archive, and apt-get, dpkg-deb or $keys is missing"; return 1; }
    say "unpacking packages of Debian unstable into ${folder#"$root"/}: $wanted"
    rm -rf "$folder"
    mkdir -p "$folder/log" && fetch_mysql "$folder" "$keys" "$wanted" >"$folder/log/fetch" 2>&1 ||
        { say "no MySQL: Debian unstable does not give it today, see ${folder#"$root"/}/log/fetch: $(tail -n 1 "$folder/log/fetch")"; return 1; }
    rm -rf "$folder/apt"
    "$folder/mysqld" --no-defaults --version >"$folder/log/version" 2>&1 && "$folder/mysql" --no-defaults --version >>"$folder/log/version" 2>&1 ||
        { say "no MySQL: that of Debian unstable does not start, see ${folder#"$root"/}/log/version: $(tail -n 1 "$folder/log/version")"; return 1; }
    say "$(head -n 1 "$folder/log/version")"
    printf '%s' "$wanted" >"$folder/installed"
}

# Downloads and unpacks the packages $3 into $1/root, for which apt keeps its state in $1/apt and checks by the keys in $2.
fetch_mysql() {
    local folder=$1 keys=$2 apt=$1/apt architecture package loader libraries program
    local -a wanted options
    read -ra wanted <<<"$3"
    architecture=$(dpkg --print-architecture) || return
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$folder/root" || return
    printf 'deb [signed-by=%s] http://deb.debian.org/debian sid main\n' "$keys" >"$apt/sources"
    # What the packages ask for and no server needs that is only started by hand counts as installed.
    for package in perl debconf passwd psmisc iproute2 systemd mysql-common mysql-client; do
        printf 'Package: %s\nStatus: install ok installed\nArchitecture: %s\nMulti-Arch: allowed\nVersion: 999\n\n' \
            "$package" "$architecture"
    done >"$apt/status"
    options=(-q -o Dir::Etc::sourcelist="$apt/sources" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::State::extended_states="$apt/extended_states"
        -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" -o Debug::NoLocking=1 -o Acquire::Languages=none
        -o Acquire::Retries=3 -o APT::Architectures="$architecture" -o APT::Install-Recommends=false
        -o APT::Sandbox::User="$(id -un)")
    # The second one says more clearly than the first what a mirror did not have.
    apt-get "${options[@]}" -o APT::Update::Error-Mode=any update || return
    apt-get "${options[@]}" -y --download-only install "${wanted[@]}" || return
    for package in "$apt"/archives/*.deb; do
        dpkg-deb -x "$package" "$folder/root" || return
    done
    loader=$(compgen -G "$folder/root/usr/lib/*/ld-linux*.so.*" | head -n 1)
    [ -n "$loader" ] || { echo "there is no loader among the packages"; return 1; }
    libraries=$(dirname "$loader")
    # Options of our own come last: --no-defaults is only taken in front.
    for program in sbin/mysqld bin/mysql; do
        cat >"$folder/${program##*/}" <<WRAPPER
#!/bin/sh
# ${program##*/} of Debian unstable with its own libraries.
exec '$loader' --library-path '$libraries' '$folder/root/usr/$program' "\$@" \\
    --plugin-dir='$folder/root/usr/lib/mysql/plugin' --character-sets-dir='$folder/root/usr/share/mysql/charsets'
WRAPPER
        chmod 755 "$folder/${program##*/}" || return
    done
    sed -i "\$s|\$| --lc-messages-dir='$folder/root/usr/share/mysql'|" "$folder/mysqld"
}

need_rust() {
    local component
    command -v cargo >/dev/null || die "cargo is missing: install Rust with https://rustup.rs, then start again"
    # linking, and the C parts of some dependencies
    need build-essential cc make
    for component in "$@"; do
        case $component in
            rustfmt) cargo fmt --version >/dev/null 2>&1 && continue ;;
            clippy) cargo clippy --version >/dev/null 2>&1 && continue ;;
        esac
        command -v rustup >/dev/null ||
            die "$component is missing and this Rust is not managed by rustup: install your distribution's $component"
        say "adding the rustup component $component"
        rustup component add "$component" >&2
    done
}
