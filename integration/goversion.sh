#!/bin/sh
# Fails with a clear message where Go is missing or older than go.mod asks.
set -eu
wanted=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
found=$(go env GOVERSION 2>/dev/null || true)
found=${found#go}
major=${found%%.*}
minor=${found#*.}
minor=${minor%%[!0-9]*}
if [ "$((${major:-0} * 1000 + ${minor:-0}))" -lt "$((${wanted%%.*} * 1000 + ${wanted#*.}))" ]; then
	echo "Roamgate needs Go $wanted or newer, found ${found:-none}: see https://go.dev/doc/install" >&2
	exit 1
fi
