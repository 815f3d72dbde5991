#!/bin/sh
# Names the packages of the distribution that are missing for `make demo`,
# `make test` or `make check` and installs them: on a terminal it asks first,
# with YES=1 or without a terminal it goes on.
#
# It never lets a service of the host start or become enabled. A Debian package
# does both on its own when it is installed (strongswan-charon brings
# strongswan-starter, which does):
#  - starting goes through invoke-rc.d and deb-systemd-invoke, which ask
#    /usr/sbin/policy-rc.d first. One that says no (101) stands there during
#    the installation; what stood there before comes back. RUNLEVEL=1 would be
#    shorter, but is not looked at where systemd runs.
#  - enabling asks nobody, so what the installation enabled is disabled again
#    at its end; what was enabled before stays so.
set -eu

demo='iproute2 strongswan-charon strongswan-swanctl libcharon-extra-plugins libstrongswan-standard-plugins strongswan-pki'
# gcc and libc6-dev: the race detector links with cgo. libipsec-mb-dev, of PCs only:
# the build tag ipsecmb. qemu-system-x86 and
# xz-utils: integration/vm runs its machine, and unpacks its kernel's modules.
test="$demo iperf3 ethtool wireguard-tools qemu-system-x86 xz-utils gcc libc6-dev libipsec-mb-dev openssl nftables tshark libxml2-utils libplist-utils zbar-tools libwbxml2-utils postgresql softhsm2 curl certmonger scep chromium bird2"
# What make generate compiles BPF programs with, see bpf/headers.
check='clang-14 llvm-14'

policy=/usr/sbin/policy-rc.d
saved=$policy.before-roamgate

fail() {
	echo "packages.sh: $*" >&2
	exit 1
}

enabled() {
	find /etc/systemd/system -type l \( -path '*.wants/*' -o -path '*.requires/*' \) 2>/dev/null || true
	find /etc/rc[0-6S].d -name 'S*' 2>/dev/null || true
}

# restore undoes what install did to the host beside installing.
restore() {
	trap - EXIT
	rm -f "$policy"
	if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
	enabled | sort | comm -13 "$list" - | while read -r link; do
		[ -L "$link" ] || continue # went with one before
		name=$(basename "$link")
		echo "packages.sh: the installation enabled $name: disabling it again"
		case $link in
		/etc/rc*) update-rc.d "${name#S??}" disable >/dev/null ;;
		*) systemctl --quiet disable "$name" || rm -f "$link" ;;
		esac
	done
	rm -f "$list"
}

install_packages() {
	# One that an interrupted run saved is the host's own.
	if [ -e "$policy" ] && [ ! -e "$saved" ]; then mv "$policy" "$saved"; fi
	list=$(mktemp)
	enabled | sort >"$list"
	trap restore EXIT
	trap 'exit 130' INT HUP TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	# Without a front end debconf takes its defaults (wireshark-common asks who
	# may capture); needrestart would restart services of the host.
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
	apt-get -q -o DPkg::Lock::Timeout=120 update </dev/null
	apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" </dev/null
}

case ${1:-} in
demo) wanted=$demo ;;
test) wanted=$test ;;
check) wanted=$check ;;
install-as-root)
	shift
	install_packages "$@"
	exit
	;;
*) fail "usage: packages.sh demo|test|check" ;;
esac

command -v dpkg-query >/dev/null || fail "this is no Debian or Ubuntu; please install what these packages hold: $wanted"
missing=
for p in $wanted; do
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

echo "Missing packages:$missing"
if [ "${YES:-}" != 1 ] && [ -z "${CI:-}" ] && [ -t 0 ]; then
	printf 'Install them? No service is started or enabled. [y/N] '
	read -r answer
	case $answer in
	[yY]*) ;;
	*) fail "not installed" ;;
	esac
fi
sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || fail "installing needs root or sudo"
	sudo=sudo
fi
# shellcheck disable=SC2086 # words on purpose
$sudo sh "$0" install-as-root $missing
