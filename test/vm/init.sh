#!/bin/busybox sh
# Process 1 of the guest: lays a tmpfs over the read-only root, mounts what a system needs, runs the
# script that vm.sh was given, notes its exit status and turns the guest off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
b=/bin/busybox
off() { $b sync; $b poweroff -f; $b sleep 1000; }
die() { echo "init: $*"; off; }

[ "${1:-}" = last ] || $b mount -t proc proc /proc || die "no /proc"
for w in $($b cat /proc/cmdline); do case $w in zerofs=*) share=${w#*=} ;; esac; done
. "$share/conf"

if [ "${1:-}" = last ]; then
	export VM_SHARE=$share VM_CACHE=$cache VM_DIR=$here
	cd /root
	/bin/bash "$script"
	echo $? >"$share/status.new"
	$b mv "$share/status.new" "$share/status"
	off
fi

kv=$($b uname -r)
$b mount -t tmpfs -o mode=755,size=80% tmpfs /mnt || die "no tmpfs"
$b mkdir /mnt/upper /mnt/work /mnt/root
$b insmod "/usr/lib/uml/modules/$kv/kernel/fs/overlayfs/overlay.ko" || die "no overlay"
r=/mnt/root
$b mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay $r || die "no root"
$b mkdir -p $r/lib/modules $r/mnt "$r$share"
$b rm -rf "$r/lib/modules/$kv"
$b ln -s "/usr/lib/uml/modules/$kv" "$r/lib/modules/$kv"
$b mount -t proc proc $r/proc
$b mount -t sysfs sysfs $r/sys
$b mount -t devtmpfs dev $r/dev || die "no /dev"
exec <$r/dev/null >$r/dev/tty0 2>&1
$b stty raw -echo <$r/dev/tty0
$b mkdir -p $r/dev/pts $r/dev/shm
$b mount -t devpts devpts $r/dev/pts
$b mount -t tmpfs shm $r/dev/shm
$b ln -sfn /proc/self/fd $r/dev/fd
for i in 0:stdin 1:stdout 2:stderr; do $b ln -sfn "/proc/self/fd/${i%%:*}" "$r/dev/${i#*:}"; done
$b mount -t tmpfs -o mode=755 run $r/run
$b mount -t tmpfs -o mode=755 mnt $r/mnt
$b mount -t hostfs -o "$share" none "$r$share" || die "no share"

$b ip link set lo up
n=0; while [ $n -lt 50 ] && ! [ -e $r/sys/class/net/vec0 ]; do $b sleep 0.1; n=$((n + 1)); done
$b ip addr add 10.99.0.2/24 dev vec0 && $b ip link set vec0 up || die "no network"
$b hostname guest
exec $b chroot $r "$share/init" last
