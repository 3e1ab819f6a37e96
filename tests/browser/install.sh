#!/bin/sh
# Installs what the browser tier runs on, as tests/browser/package-lock.json pins it, into target/browser/modules: the driver of
# a browser and the accessibility rules. The browser itself is the distribution's.
#
#   tests/browser/install.sh
set -eu

here=$(cd "$(dirname "$0")" && pwd)
modules=$(cd "$here/../.." && pwd)/target/browser/modules

if [ -d "$modules/node_modules" ] && cmp -s "$here/package-lock.json" "$modules/package-lock.json"; then
    exit 0
fi
rm -rf "$modules"
mkdir -p "$modules"
cp "$here/package.json" "$here/package-lock.json" "$modules/"
# Neither package needs its install script: one would look for a browser to download.
if ! npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund --loglevel=error > "$modules/npm.log" 2>&1; then
    cat "$modules/npm.log" >&2
    # What is half there must not pass for whole the next time.
    rm -rf "$modules/node_modules"
    echo "tests/browser/install.sh: npm could not install what the browser tier runs on" >&2
    exit 1
fi
