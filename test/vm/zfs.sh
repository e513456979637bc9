#!/bin/bash
# Guest: OpenZFS on two devices, a third as its cache: a tree, scrub, trim, the server's death,
# import, and PostgreSQL on the pool.
. "$VM_DIR/lib.sh"
modprobe nbd
. "$VM_CACHE/zfs/load"
step "start" expect start serving

attach() { local i; for i in 0 1 2; do nbd-client "$server" $((10810 + i)) "/dev/nbd$i" -b 4096; done; }
detach() { local i; for i in 0 1 2; do nbd-client -d "/dev/nbd$i"; done; }
import() { zpool import -d /dev/nbd0 -d /dev/nbd1 -d /dev/nbd2 "$@" tank; } # without -d it probes every device there is
healthy() {
	local errors
	errors=$(zpool status -p tank | awk '/^errors:/ { print }')
	[ "$errors" = "errors: No known data errors" ] && zpool status -x tank | grep -q "is healthy" || { zpool status -v tank; return 1; }
}
held() { number table_bytes; }

step "attach" attach
step "zpool create" zpool create -f -o ashift=12 -o autotrim=on -O compression=off -m /mnt/tank tank /dev/nbd0 /dev/nbd1
step "write a tree" tree /mnt/tank
step "read it" verify /mnt/tank
step "snapshot" zfs snapshot tank@one
step "scrub" zpool scrub -w tank
step "no errors" healthy

# Space comes back, by autotrim and by trim.
big() { dd if=/dev/urandom of=/mnt/tank/big bs=1M count=256 status=none && zpool sync tank; }
step "write 256 MiB more" big
sleep 5
full=$(held)
[ "$full" -gt $((200 << 20)) ] || { echo "tables of $full bytes"; exit 1; }
store_full=$(beside store)
rm /mnt/tank/big
step "sync" zpool sync tank
step "trim" zpool trim -w tank
step "space comes back" at_most $((120 << 20)) held
echo "tables: $((full >> 20)) MiB before, $(($(held) >> 20)) MiB after trim"
# Only now: ZFS would have put the removed file there too, and trims no cache.
step "zpool add cache" zpool add -f tank cache /dev/nbd2

# The server dies while the pool is exported.
step "export" zpool export tank
step "detach" detach
step "kill -9" beside kill
step "start" expect start serving
step "attach" attach
step "import" import
step "checksums" verify /mnt/tank
step "scrub" zpool scrub -w tank
step "no errors" healthy

# PostgreSQL on the pool, then a clean stop under an exported pool.
bin=$(dirname /usr/lib/postgresql/*/bin/initdb)
as() { runuser -u postgres -- env PGHOST=/tmp LC_ALL=C.UTF-8 "$bin/$1" "${@:2}"; }
database() {
	mkdir /mnt/tank/pg && chown postgres /mnt/tank/pg &&
		as initdb -D /mnt/tank/pg/cluster -k -A trust --no-instructions -E UTF8
}
serve() { as pg_ctl -D /mnt/tank/pg/cluster -w -t 300 -l /mnt/tank/pg/log -o "-c listen_addresses='' -c unix_socket_directories=/tmp -c shared_buffers=64MB" start; }
halt() { as pg_ctl -D /mnt/tank/pg/cluster -w -t 300 -m fast stop; }
load() { as pgbench -i -q -s 1 postgres && as pgbench -n -c 2 -t 200 postgres && as psql -qc 'create extension amcheck' postgres; }
books() {
	as pg_amcheck --heapallindexed -d postgres &&
		as psql -AtX -d postgres -c "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) and (select count(*) from pgbench_history) = 400" | grep -qx t
}
chmod 1777 /tmp
step "initdb" database
step "start PostgreSQL" serve
step "pgbench" load
step "its books" books
step "stop PostgreSQL" halt
step "export" zpool export tank
step "detach" detach
step "stop" expect stop 0
step "start" expect start serving
step "attach" attach
step "import" import
step "checksums" verify /mnt/tank
step "start PostgreSQL" serve
step "its books" books

step "stop PostgreSQL" halt
step "scrub" zpool scrub -w tank
step "no errors" healthy

# The bucket itself shrinks, five minutes after the last record that named the objects.
step "the bucket shrinks" at_most $((store_full - (100 << 20))) beside store
echo "bucket: $((store_full >> 20)) MiB before, $(($(beside store) >> 20)) MiB after trim"
step "export" zpool export tank
step "detach" detach
step "stop" expect stop 0
echo "ZFS: all well"
