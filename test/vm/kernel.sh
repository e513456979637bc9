#!/bin/bash
# Guest: the kernel's NBD client on three devices on three ports, with ext4, xfs and btrfs: files
# and their sums, discard, fstrim, the death of the server in mid-write, a clean restart, fsck.
. "$VM_DIR/lib.sh"
kinds=(ext4 xfs btrfs)
modprobe nbd
step "start" expect start serving

attach() {
	local i
	for i in 0 1 2; do
		nbd-client "$server" $((10810 + i)) "/dev/nbd$i" -b 4096 -C 2 "$@"
	done
}
detach() { local i; for i in 0 1 2; do nbd-client -d "/dev/nbd$i"; done; }
make_fs() { case $1 in ext4) mkfs.ext4 -qF -E lazy_itable_init=0,lazy_journal_init=0 "$2" ;; *) "mkfs.$1" -qf "$2" ;; esac; }
check_fs() { case $1 in ext4) e2fsck -fn "$2" ;; xfs) xfs_repair -n "$2" ;; btrfs) btrfs check "$2" ;; esac; }
mount_all() { local i; for i in 0 1 2; do mount -o noatime,discard "/dev/nbd$i" "/mnt/$i"; done; }
unmount_all() { local i; for i in 0 1 2; do umount "/mnt/$i"; done; }
each() { local i; for i in 0 1 2; do "$1" "/mnt/$i" || return; done; }
check_all() { local i; for i in 0 1 2; do check_fs "${kinds[i]}" "/dev/nbd$i" || return; done; }

step "attach three devices" attach
for i in 0 1 2; do
	q=/sys/block/nbd$i/queue
	[ "$(<$q/discard_max_bytes)" -gt 0 ] && [ "$(<$q/write_cache)" = "write back" ] && [ "$(blockdev --getsize64 /dev/nbd$i)" = 2147483648 ] ||
		{ echo "nbd$i: discard $(<$q/discard_max_bytes), cache $(<$q/write_cache)"; exit 1; }
	mkdir /mnt/$i
	step "mkfs.${kinds[i]}" make_fs "${kinds[i]}" /dev/nbd$i
done
step "mount with discard" mount_all
step "write trees" each tree
step "read trees" each verify

# Discard gives space back: the tables, and so the objects that the bucket has to keep, shrink to
# what the three trees take, some 100 MiB.
big() { dd if=/dev/urandom of=/mnt/0/big bs=1M count=256 conv=fsync status=none; }
held() { number table_bytes; }
step "write 256 MiB more" big
full=$(held)
[ "$full" -gt $((220 << 20)) ] || { echo "tables of $full bytes"; exit 1; }
rm /mnt/0/big
sync -f /mnt/0
step "fstrim" fstrim /mnt/0
step "space comes back" at_most $((160 << 20)) held
echo "tables: $((full >> 20)) MiB before, $(($(held) >> 20)) MiB after fstrim"

# The server dies while files are written. What was synced is there when the device is back. It has to
# be attached anew: nbd-client -persist finds the device busy as long as it is mounted (Linux 6.1, NBD_DO_IT).
(for i in {1..500}; do dd if=/dev/urandom "of=/mnt/1/w$i" bs=64k count=4 conv=fsync status=none || exit 0; echo "$i" >/tmp/synced; done) 2>/dev/null &
until grep -q '..' /tmp/synced 2>/dev/null; do sleep 0.1; done # ten at least
step "kill -9 in mid-write" beside kill
wait $!
synced=$(</tmp/synced)
step "unmount" unmount_all
step "detach" detach
step "start" expect start serving
step "attach" attach
step "mount: journals are replayed" mount_all
step "read trees" each verify
for ((i = 1; i <= synced; i++)); do
	[ "$(stat -c %s "/mnt/1/w$i")" = 262144 ] || { echo "synced file $i is lost"; exit 1; }
done
echo "$synced files were synced before the server died"
step "unmount" unmount_all
step "fsck of all" check_all
step "detach" detach
step "stop" expect stop 0
step "start" expect start serving
step "attach again" attach
step "fsck of all" check_all
step "mount" mount_all
step "read trees" each verify
step "unmount" unmount_all
step "detach" detach
step "stop" expect stop 0
echo "kernel client: all well"
