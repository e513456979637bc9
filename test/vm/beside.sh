#!/bin/bash
# Runs zerofs beside the guest and does what the guest asks for, one thing at a time: the guest writes
# a line to "ask" in the shared directory and reads what becomes of it from "answer" (lib.sh, beside).
#
#   start    start zerofs and wait until it serves      kill     kill -9
#   stop     SIGTERM; answers the exit status           status   zerofs status -json
#   store    bytes of all objects                       log      the end of zerofs's log
set -u
share=$1
. "$share/conf"
pid=

config() {
	local i
	cat <<C
[volume]
url = "file://$share/store"
password = "password of the virtual machine"
[tiers.memory]
size = "128MiB"
[tiers.nvme]
dir = "$share/data"
size = "4GiB"
[journal]
size = "256MiB"
[writeback]
interval = "1s"
[servers.nbd]
listen = ["10.99.0.1:10809"]
insecure = true # the network of this namespace
[servers.ninep]
listen = ["10.99.0.1:5564"]
insecure = true
C
	for i in 0 1 2; do printf '[[servers.nbd.device]]\nname = "disk%d"\nsize = "2GiB"\nport = %d\n' $i $((10810 + i)); done
}

start() {
	local i
	"$zerofs" -config "$share/tiers.toml" </dev/null >>"$share/zerofs.log" 2>&1 & pid=$!
	for i in {1..1200}; do
		"$zerofs" status -json -config "$share/tiers.toml" 2>/dev/null | grep -q '"phase": "serving"' && { echo "serving"; return; }
		kill -0 $pid 2>/dev/null || { echo "ended"; return; }
		sleep 0.1
	done
	echo "not serving"
}

# end SIGNAL: ends zerofs and prints its exit status.
end() {
	kill "$1" $pid 2>/dev/null
	wait $pid 2>/dev/null
	echo $?
}

config >"$share/tiers.toml"
chmod 600 "$share/tiers.toml"
while sleep 0.05; do
	[ -e "$share/ask" ] || continue
	read -r what <"$share/ask"
	rm "$share/ask"
	case $what in
	start) start ;;
	kill) end -KILL ;;
	stop) end -TERM ;;
	status) "$zerofs" status -json -config "$share/tiers.toml" 2>&1 ;;
	store) du -sb --apparent-size "$share/store" | cut -f1 ;;
	log) tail -n 40 "$share/zerofs.log" ;;
	*) echo "unknown: $what" ;;
	esac >"$share/answer.new"
	mv "$share/answer.new" "$share/answer"
done
