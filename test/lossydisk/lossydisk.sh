#!/bin/bash
# A file system on a disk that loses, at a power cut, all that was not flushed to it.
#
# nbdkit's cache filter holds back every write until the client flushes, and a cut is the death of
# nbdkit. nbdfuse shows the export as a file, a loop device makes a block device of the file, and a
# file system lies on that. O_DIRECT, fsync and fdatasync of programs take the way that they take on
# a real disk, down to the FLUSH that the file system sends or forgets.
#
#   lossydisk.sh start STATE MOUNT SIZE ext4|xfs
#   lossydisk.sh cut   STATE     the power fails: what was not flushed is gone, I/O on the mount fails
#   lossydisk.sh back  STATE     the power returns: the same disk, mounted at the same place
#   lossydisk.sh stop  STATE     unmount and remove everything
#   lossydisk.sh check           proves that it keeps what was synced and loses the rest
#
# STATE is a directory of the script's own. Needs root, nbdkit, nbdfuse (libnbd-bin), losetup.
set -euo pipefail

fail() { echo "lossydisk: $*" >&2; [ ! -f "${state:-/}/log" ] || cat "$state/log" >&2; exit 1; }

# until_true COMMAND...: waits at most 30 s for it to succeed.
until_true() {
	local i
	for i in {1..300}; do "$@" 2>/dev/null && return; sleep 0.1; done
	fail "no success in 30 s: $*"
}

read_state() { mount_point=$(<"$state/mount"); loop=$(cat "$state/loop" 2>/dev/null || true); }

power_on() {
	mkdir -p "$state/fuse"
	# What is cached lies in a deleted file below TMPDIR.
	TMPDIR=$state nbdkit -P "$state/nbdkit.pid" -U "$state/sock" --filter=cache file "$state/image" cache=writeback \
		>>"$state/log" 2>&1 </dev/null || fail "nbdkit"
	until_true test -S "$state/sock"
	# A child of nobody here, so that the shell does not tell of its end.
	(setsid bash -c 'echo $$ >"$0/nbdfuse.pid"; exec nbdfuse "$0/fuse" "nbd+unix:///?socket=$0/sock"' \
		"$state" >>"$state/log" 2>&1 </dev/null &)
	until_true test -e "$state/fuse/nbd"
	losetup --direct-io=on -f --show "$state/fuse/nbd" >"$state/loop" || fail "losetup"
	# XFS refuses a disk of which it has another mounted: what a dying process holds of the last one.
	local options=noatime
	[ "$(blkid -p -s TYPE -o value "$(<"$state/loop")")" != xfs ] || options=noatime,nouuid
	mount -o "$options" "$(<"$state/loop")" "$(<"$state/mount")" || fail "mount"
}

# tear_down takes away what lies above a dead nbdkit.
tear_down() {
	umount -l "$mount_point" 2>/dev/null || true
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || true
	umount -l "$state/fuse" 2>/dev/null || true
	kill -9 "$(<"$state/nbdfuse.pid")" 2>/dev/null || true
	rm -f "$state/sock" "$state/loop"
}

start() {
	local size=$3 kind=$4
	mkdir -p "$state" "$2"
	realpath "$2" >"$state/mount"
	truncate -s "$size" "$state/image"
	case $kind in
	ext4) mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$state/image" ;;
	xfs) mkfs.xfs -q -f "$state/image" ;;
	*) fail "unknown file system $kind" ;;
	esac
	power_on
}

cut() {
	local pid
	read_state
	pid=$(<"$state/nbdkit.pid")
	kill -9 "$pid"
	until_true bash -c "! kill -0 $pid"
	tear_down
}

stop() {
	[ -d "$state" ] || return 0
	read_state
	umount "$mount_point" 2>/dev/null || true
	tear_down
	kill -9 "$(<"$state/nbdkit.pid")" 2>/dev/null || true
	rm -rf "$state"
}

# The check writes each kind of byte once: synced ones have to stay, the others have to go.
check_one() {
	local kind=$1 m=$work/m.$1
	state=$work/s.$kind
	start "$state" "$m" 512M "$kind"
	printf 'a%.0s' {1..4096} | dd of="$m/synced" bs=4096 conv=fsync status=none
	printf 'b%.0s' {1..4096} | dd of="$m/half" bs=4096 conv=fsync status=none
	sync "$m"
	printf 'c%.0s' {1..4096} | dd of="$m/half" bs=4096 seek=1 conv=notrunc status=none
	printf 'd%.0s' {1..4096} >"$m/unsynced"
	printf 'E%.0s' {1..4096} >"$work/page"
	dd if="$work/page" of="$m/synced" bs=4096 conv=notrunc oflag=direct status=none # in place, not flushed
	cut
	power_on
	[ "$(tr -d a <"$m/synced" | wc -c)" = 0 ] && [ "$(stat -c %s "$m/synced")" = 4096 ] || fail "$kind: synced bytes changed"
	[ "$(head -c 4096 "$m/half" | tr -d b | wc -c)" = 0 ] || fail "$kind: synced half lost"
	! grep -q c "$m/half" || fail "$kind: bytes stayed that were not synced"
	! grep -qs d "$m/unsynced" || fail "$kind: a file stayed that was not synced"
	stop
	echo "$kind: what was synced stays, the rest goes"
}

command=${1:?start, cut, back, stop or check}
if [ "$command" = check ]; then
	work=$(mktemp -d)
	trap '[ -z "${state:-}" ] || stop; rm -rf "$work"' EXIT
	check_one ext4
	check_one xfs
	exit
fi
state=$(realpath -m "${2:?state directory}")
case $command in
start) start "$state" "${3:?mount point}" "${4:?size}" "${5:?ext4 or xfs}" ;;
cut) cut ;;
back) power_on ;;
stop) stop ;;
*) fail "unknown command $command" ;;
esac
