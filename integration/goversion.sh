#!/bin/sh
# Fails with a clear message where Go is missing or older than go.mod asks. Go 1.21
# and newer fetch that version; what they say when they can't stands on stderr.
set -eu
wanted=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
found=
if command -v go >/dev/null; then
	found=$(go env GOVERSION || true)
	found=${found#go}
fi
major=${found%%.*}
minor=${found#*.}
minor=${minor%%[!0-9]*}
if [ "$((${major:-0} * 1000 + ${minor:-0}))" -lt "$((${wanted%%.*} * 1000 + ${wanted#*.}))" ]; then
	echo "Roamgate needs Go $wanted, found ${found:-none}. On Debian 12 that of the backports fetches it by itself:
  echo deb http://deb.debian.org/debian bookworm-backports main > /etc/apt/sources.list.d/backports.list
  apt update && apt install -t bookworm-backports golang-go
Elsewhere: https://go.dev/doc/install" >&2
	exit 1
fi
