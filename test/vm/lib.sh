# shellcheck shell=bash
# Helpers of guest scripts; sourced.
set -euo pipefail
server=10.99.0.1

# step TEXT COMMAND...: runs it, says how long it took; its output is shown when it fails.
step() {
	local text=$1 begun=$EPOCHREALTIME status=0
	shift
	"$@" >/tmp/step.out 2>&1 || status=$?
	printf '%-44s %6d ms\n' "$text" $(((${EPOCHREALTIME/./} - ${begun/./}) / 1000))
	[ $status = 0 ] && return
	echo "FAILED ($status): $*"
	tail -n 20 /tmp/step.out
	beside log
	exit 1
}

# beside COMMAND: has beside.sh do something and prints the answer.
beside() {
	local i
	rm -f "$VM_SHARE/answer"
	echo "$1" >"$VM_SHARE/ask.new"
	mv "$VM_SHARE/ask.new" "$VM_SHARE/ask"
	for i in {1..2400}; do
		[ -e "$VM_SHARE/answer" ] && { cat "$VM_SHARE/answer"; return; }
		sleep 0.1
	done
	echo "no answer to $1"
	return 1
}

# expect COMMAND WANT: as beside, the answer has to be WANT.
expect() {
	local got
	got=$(beside "$1")
	[ "$got" = "$2" ] || { echo "$1: $got, want $2"; return 1; }
}

# number FIELD: a number of the server's status.
number() { beside status | sed -n "s/^ *\"$1\": \([0-9]*\).*/\1/p" | head -n 1; }

# at_most LIMIT COMMAND...: waits up to ten minutes until the command prints at most LIMIT.
at_most() {
	local limit=$1 i got
	shift
	for i in {1..300}; do
		got=$("$@")
		[ "$got" -gt "$limit" ] || return 0
		sleep 2
	done
	echo "$*: $got, want at most $limit"
	return 1
}

# tree DIR: puts a tree there with sums of all its files beside it, and syncs it all.
tree() {
	mkdir -p "$1/tree"
	cp -r /usr/share/perl/5.*/unicore /usr/share/common-licenses "$1/tree/"
	dd if=/dev/urandom of="$1/tree/random" bs=1M count=8 status=none
	(cd "$1/tree" && find . -type f -print0 | sort -z | xargs -0 sha256sum) >"$1/sums"
	sync -f "$1"
}

# verify DIR: checks what tree put there, read from the device again.
verify() {
	echo 3 >/proc/sys/vm/drop_caches
	(cd "$1/tree" && sha256sum --quiet -c ../sums)
}
