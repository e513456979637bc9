#!/bin/bash
# Runs a script under a real Linux kernel, user-mode Linux, with zerofs beside it: the kernel's own
# NBD client and its file systems on our devices. No KVM, no image: the guest's root is this
# machine's, read-only with a tmpfs over it.
#
#   vm.sh [-t SECONDS] [-m MIB] [-v] SCRIPT     exits with the script's status; 124: time-out
#
#   -t  limit for all of it, default 600     -m  memory of the guest, default 1536
#   -v  show the kernel's log
#
# Guest and server live in namespaces of their own, so that no port or mount meets the machine's,
# and all of it ends with this script, however that ends. The guest is 10.99.0.2, the server's side
# 10.99.0.1. beside.sh runs there and does what the guest asks for: see lib.sh.
#
# Needs root, user-mode-linux, busybox-static, iproute2, kmod; zerofs from ZEROFS_BINARY or bin/zerofs.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)

# The outer half makes the shared directory and the namespaces.
outer() {
	local limit=600 mem=1536 verbose= script status=0
	while getopts t:m:v o; do case $o in
		t) limit=$OPTARG ;; m) mem=$OPTARG ;; v) verbose=y ;; *) exit 2 ;;
	esac; done
	shift $((OPTIND - 1))
	script=$(readlink -f "${1:?script}")
	[ "$(id -u)" = 0 ] || { echo "vm.sh: needs root" >&2; exit 2; }
	zerofs=$(readlink -f "${ZEROFS_BINARY:-$here/../../bin/zerofs}")
	[ -x "$zerofs" ] || { echo "vm.sh: no $zerofs: make build" >&2; exit 2; }
	share=$(mktemp -d /var/tmp/zerofs-vm.XXXXXX)
	trap 'rm -rf --one-file-system "$share"' EXIT
	{
		printf 'share=%q here=%q script=%q cache=%q zerofs=%q\n' "$share" "$here" "$script" \
			"${ZEROFS_VM_CACHE:-/var/tmp/zerofs-vm-cache}" "$zerofs"
	} >"$share/conf"
	cp "$here/init.sh" "$share/init"
	chmod 755 "$share" "$share/init"
	# unshare's child dies with it, and all of its namespace with that child.
	timeout -s KILL "$limit" unshare --pid --mount --net --fork --kill-child --mount-proc \
		"$here/vm.sh" --inside "$share" "$mem" </dev/null || status=$?
	if [ -e "$share/status" ]; then
		status=$(<"$share/status")
	elif [ $status != 137 ]; then
		echo "vm.sh: the guest ended without a status" >&2
		status=125 verbose=y
	else
		echo "vm.sh: not done after $limit s" >&2
		status=124 verbose=y
	fi
	[ -z "$verbose" ] || tail -n 60 "$share/kernel.log" >&2 || true
	[ "$status" = 0 ] || tail -n 60 "$share/zerofs.log" >&2 || true
	exit "$status"
}

# The inner half is process 1 of the namespace.
inner() {
	local mem=$2 cpu
	share=$1
	ip link set lo up
	ip tuntap add dev vmtap mode tap
	ip addr add 10.99.0.1/24 dev vmtap
	ip link set vmtap up
	"$here/beside.sh" "$share" >"$share/beside.log" 2>&1 &
	mkfifo "$share/out"
	cat "$share/out" & out=$!
	exec 5>"$share/out"
	# The guest's processes take turns: on one processor that goes fastest.
	cpu=$(sed -n 's/^Cpus_allowed_list:.*[^0-9]//p' /proc/self/status)
	TMPDIR=/dev/shm taskset -c "$cpu" linux.uml "mem=${mem}M" "uml_dir=$share" umid=uml root=/dev/root rootfstype=hostfs \
		rootflags=/ ro "init=$share/init" "zerofs=$share" "vec0:transport=tap,ifname=vmtap,depth=128,gro=1" \
		console=ttyS0 con=null ssl=null ssl0=null,fd:1 con0=null,fd:5 panic=-1 </dev/null >"$share/kernel.log" 2>&1 || true
	exec 5>&-
	wait $out
}

if [ "${1:-}" = --inside ]; then
	shift
	inner "$@"
else
	outer "$@"
fi
