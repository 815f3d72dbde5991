#!/bin/bash
# Writes testdata/ip/NAME for each command below: the command, then the type,
# the flags and the body (without the netlink header, in hexadecimal) of the
# message that ip(8) sends for it. The kernel need not like it: what it is asked
# is what counts. It takes root, strace, and runs in a network namespace of its
# own. Made with iproute2 6.1.0.
set -eu
cd "$(dirname "$0")"
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 exec unshare --net ./capture.sh
fi
trap 'rm -f strace.out' EXIT
capture() {
	local name=$1
	shift
	strace -qq -xx -s 8192 -e trace=sendmsg -o strace.out ip xfrm "$@" >/dev/null 2>&1 || true
	{
		echo "ip xfrm ${*@Q}"
		sed -n 's/.*nlmsg_type=\([^,]*\), nlmsg_flags=\([^,]*\),.*nlmsg_pid=0}, "\([\\x0-9a-f]*\)"\].*/\1\n\2\n\3/p' strace.out | head -3 | sed 's/\\x//g'
	} >ip/"$name"
}
gcm=(aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128)
cbc=(auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128 enc 'cbc(aes)' 0x000102030405060708090a0b0c0d0e0f)
in=(src 203.0.113.7 dst 203.0.113.1 proto esp spi 0x01020304)
out=(src 203.0.113.1 dst 203.0.113.7 proto esp spi 0xc0ffee01)
mine=(reqid 0x52000007 mode tunnel)
limits=(limit byte-soft 1000 limit byte-hard 2000 limit packet-soft 30 limit packet-hard 40)
capture newsa-udp state add "${in[@]}" "${mine[@]}" replay-window 1024 replay-seq 0x10 replay-seq-hi 1 flag esn flag af-unspec "${gcm[@]}" encap espinudp 40000 4500 0.0.0.0 if_id 0x47 "${limits[@]}"
capture updsa-udp state update "${in[@]}" "${mine[@]}" replay-window 1024 flag af-unspec "${gcm[@]}" encap espinudp 40000 4500 0.0.0.0 if_id 0x47
capture newsa-raw-out state add "${out[@]}" "${mine[@]}" flag nopmtudisc flag af-unspec extra-flag dont-encap-dscp "${cbc[@]}" if_id 0x47
capture newsa-selector state add "${in[@]}" "${mine[@]}" replay-window 1024 "${gcm[@]}" if_id 0x47 sel src 10.9.0.7/32
capture newsa-ipv6 state add src 2001:db8::7 dst 2001:db8::1 proto esp spi 0x01020304 "${mine[@]}" replay-window 1024 flag af-unspec "${gcm[@]}" if_id 0x47
capture newsa-offload state add "${in[@]}" "${mine[@]}" replay-window 1024 flag af-unspec "${gcm[@]}" if_id 0x47 offload dev lo dir in
capture delsa state delete "${in[@]}"
capture getsa state get "${out[@]}"
tmpl=(tmpl src 203.0.113.1 dst 203.0.113.7 proto esp spi 0xc0ffee01 "${mine[@]}")
capture newpolicy-out policy add src 10.2.0.0/16 dst 10.9.0.7/32 dir out priority 1033 if_id 0x47 "${tmpl[@]}"
capture updpolicy-ports policy update src 10.2.0.0/16 dst 10.9.0.7/32 proto udp sport 7 dport 4000 dir out priority 1032 if_id 0x47 "${tmpl[@]}"
capture newpolicy-in policy add src 10.9.0.0/24 dst 0.0.0.0/0 dir in priority 3000 if_id 0x47 tmpl src 0.0.0.0 dst 0.0.0.0 proto esp mode tunnel
capture newpolicy-fwd6 policy add src fd00:9::/64 dst ::/0 dir fwd priority 3000 if_id 0x47 tmpl src :: dst :: proto esp mode tunnel
capture newpolicy-block policy add src 10.9.0.7/32 dst 0.0.0.0/0 dir fwd action block priority 2000 if_id 0x47
capture delpolicy policy delete src 10.2.0.0/16 dst 10.9.0.7/32 dir out if_id 0x47
capture newspdinfo policy set hthresh4 0 32 hthresh6 0 128
capture getspdinfo policy count
