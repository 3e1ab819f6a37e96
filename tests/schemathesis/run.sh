#!/bin/sh
# Asks a running control plane everything that its OpenAPI document allows, and much that it does not: no 5xx, no answer
# that the document does not declare. Uses the program at target/debug/tidegate, a store in a directory of its own and a
# free port of 127.0.0.1.
#
#   tests/schemathesis/run.sh [arguments for `schemathesis run` ...]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
version=4.32.5
tool="$top/target/schemathesis"

if [ "$("$tool/bin/schemathesis" --version 2>/dev/null)" != "schemathesis, version $version" ]; then
    rm -rf "$tool"
    python3 -m venv "$tool"
    "$tool/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi

dir=$(mktemp -d)
control=
finish() {
    [ -z "$control" ] || kill "$control" 2>/dev/null || true
    [ -z "$control" ] || wait "$control" 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$dir/tidegate.yaml" <<YAML
version: 1
control:
  listen: 127.0.0.1:$port
  store: sqlite://control.db
  bootstrap-token-file: admin-token
YAML
env -i PATH="$PATH" "$top/target/debug/tidegate" control --config "$dir/tidegate.yaml" > "$dir/log" 2>&1 &
control=$!

url="http://127.0.0.1:$port/api/v1"
ask() { curl --silent --noproxy '*' --fail --output /dev/null "$@"; }
tries=0
until ask "$url/healthz"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ] || ! kill -0 "$control" 2>/dev/null; then
        echo "the control plane did not come up:" >&2
        cat "$dir/log" >&2
        exit 1
    fi
    sleep 0.1
done

token=$(cat "$dir/admin-token")
# Something to find: a policy and a set of the names that the document gives as examples.
ask -X POST "$url/orgs/acme/policies" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
    -d '{"name":"base","yaml":"egress-policy: audit\n"}'
ask -X PUT "$url/orgs/acme/endpoint-sets/base" -H "Authorization: Bearer $token" -H 'Content-Type: application/yaml' \
    -d '[a.test]'

status=0
# It leaves a cache where it runs.
cd "$dir"
env -i PATH="$PATH" HOME="$dir" "$tool/bin/schemathesis" --config-file "$here/schemathesis.toml" --no-color run \
    "$url/openapi.json" -H "Authorization: Bearer $token" --seed 1 --workers 1 --request-timeout 30 "$@" > "$dir/report" 2>&1 || status=$?
if [ "$status" -ne 0 ]; then
    cat "$dir/report" >&2
else
    sed -n '/= SUMMARY =/,$p' "$dir/report"
fi
kill -0 "$control" 2>/dev/null || { echo "the control plane died:" >&2; tail -20 "$dir/log" >&2; exit 1; }
! grep -i panicked "$dir/log" || exit 1
exit "$status"
