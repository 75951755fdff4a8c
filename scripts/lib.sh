# Shared by the scripts of this folder; sourced, not run.
#
#   say TEXT…                 one line to the person at the terminal (standard error)
#   die TEXT…                 the same, then end with status 1
#   as_root COMMAND…          run it as root: directly, or through sudo
#   need PACKAGE COMMAND…     install the Debian package unless every command exists
#   need_venv PACKAGE…        put these Python packages (NAME==VERSION) into target/python, unless they are there
#   need_npm PACKAGE…         put these Node packages (NAME@VERSION) into target/node, unless they are there
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
