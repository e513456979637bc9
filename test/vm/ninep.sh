#!/bin/bash
# Guest: the kernel's 9P client, v9fs, in all its cache modes: files and their sums, what programs do with
# files, a compiler, users, locks, two mounts, the server's end and its death, and the table of
# test/posix. v9fs does not connect anew: after each end of the server it is mounted again.
. "$VM_DIR/lib.sh"
modprobe -a 9p 9pnet_fd
step "start" expect start serving
options=trans=tcp,port=5564,version=9p2000.L,msize=1048576
mkdir -p /mnt/9p /mnt/b

# The line that the documentation gives; 127.0.0.1 is the guest's, so the port is passed on.
busybox nc -ll -p 5564 -e busybox nc "$server" 5564 &
relay=$!
until busybox netstat -ltn 2>/dev/null | grep -q ':5564 '; do sleep 0.1; done
step "mount as documented" mount -t 9p -o trans=tcp,port=5564,version=9p2000.L,msize=1048576,access=user 127.0.0.1 /mnt/9p
cp /etc/services /mnt/9p/services
cmp /etc/services /mnt/9p/services
rm /mnt/9p/services
step "unmount" umount /mnt/9p
kill $relay

# strict FUNCTION ARGUMENTS...: runs it where the first command that fails ends it; step does not.
strict() { bash -xeuo pipefail -c "$(declare -f "$1" fails as); \"\$@\"" bash "$@"; }
# fails COMMAND...: the command has to.
fails() {
	if "$@" 2>/dev/null; then
		echo "did not fail: $*"
		return 1
	fi
}
as() { setpriv --reuid "$1" --regid "$2" --groups "$3" -- bash -c "$4"; }

attach() { mount -t 9p -o "$options,$1" "$server" "${2:-/mnt/9p}"; }

# programs DIR: what programs do with files, each with its outcome.
programs() {
	cd "$1"
	mkdir d d/e
	echo one >d/f
	ln d/f g
	ln -s d/f l
	echo two >>l
	[ "$(<g)" = $'one\ntwo' ] && [ "$(stat -c %h g)" = 2 ]
	mv d/f d/e/f
	fails [ -e l ]
	mv -T d/e d/x
	[ "$(<d/x/f)" = $'one\ntwo' ]
	mkfifo p
	mknod n c 1 3
	echo gone >n
	[ "$(stat -c %t:%T n)" = 1:3 ]
	chmod 2750 d && chown 12:34 d && touch -d '2001-02-03 04:05:06.123456789' d
	[ "$(stat -c '%a %u %g' d)" = "2750 12 34" ] && [ "$(stat -c %Y d)" = "$(date -d '2001-02-03 04:05:06' +%s)" ]
	echo new >d/new
	[ "$(stat -c %g d/new)" = 34 ] # the directory is setgid
	truncate -s 1M s
	printf end | dd of=s bs=1 seek=2000000 conv=notrunc status=none
	[ "$(stat -c %s s)" = 2000003 ] && [ "$(tail -c 3 s)" = end ]
	grep -q ' /mnt/9p .*cache=loose' /proc/mounts || [ "$(du -k s | cut -f1)" -lt 100 ] # loose counts by itself
	echo unlinked >o
	exec 7<o
	rm o
	[ "$(cat <&7)" = unlinked ]
	exec 7<&-
	for i in {1..100}; do : >"d/x/$i"; done
	[ "$(ls d/x | wc -l)" = 101 ]
	rm -r d/x
	fails rmdir d
	[ "$(df --output=target . | tail -n 1)" = /mnt/9p ]
	cd /
}

# compile DIR: unpacks the sources of a small program, builds it with all its warnings, and runs it.
compile() {
	cd "$1"
	mkdir src
	local i
	for i in {1..8}; do printf '#include <stdio.h>\n#include "all.h"\nint f%d(int x) { return x + %d; }\n' "$i" "$i" >"src/f$i.c"; done
	for i in {1..8}; do echo "int f$i(int);"; done >src/all.h
	printf '#include <stdio.h>\n#include "all.h"\nint main(void) { printf("%%d\\n", f1(f2(f3(f4(f5(f6(f7(f8(6))))))))); return 0; }\n' >src/main.c
	printf 'prog: $(patsubst %%.c,%%.o,$(wildcard *.c))\n\tgcc -o $@ $^\n%%.o: %%.c all.h\n\tgcc -Wall -Werror -O1 -c -o $@ $<\n' >src/Makefile
	tar cf src.tar src
	rm -r src
	tar xf src.tar
	make -s -C src
	[ "$(src/prog)" = 42 ]
	make -q -C src
	cd /
}

# users DIR: who may do what, as the kernel of the client sees it and as the server does.
users() {
	mkdir -m 777 "$1/u"
	as 1001 2001 2001 "umask 077; echo secret >$1/u/private; echo shared >$1/u/shared; chmod 640 $1/u/shared"
	[ "$(stat -c '%u %g' "$1/u/private")" = "1001 2001" ]
	as 1001 2001 2001 "grep -q secret $1/u/private"
	fails as 1002 2002 2002 "cat $1/u/private"
	fails as 1002 2002 2002 "cat $1/u/shared"
	as 1002 2002 2002,2001 "grep -q shared $1/u/shared"
	fails as 1002 2002 2002,2001 "echo x >>$1/u/shared"
	fails as 1002 2002 2002 "chmod 777 $1/u/shared"
	chmod 1777 "$1/u"
	fails as 1002 2002 2002 "rm -f $1/u/shared"
	as 1001 2001 2001 "rm $1/u/shared"
}

# The modes. Kernels from 6.4 on know "readahead".
modes=(none mmap loose)
step "mount" attach access=user
step "write a tree" tree /mnt/9p
step "unmount" umount /mnt/9p
IFS=. read -r major minor _ < <(uname -r)
[ "$major" -gt 6 ] || { [ "$major" = 6 ] && [ "$minor" -ge 4 ]; } && modes+=(readahead)
for mode in "${modes[@]}"; do
	step "cache=$mode: mount" attach "access=user,cache=$mode"
	step "cache=$mode: files of before" verify /mnt/9p
	mkdir "/mnt/9p/$mode"
	step "cache=$mode: programs" strict programs "/mnt/9p/$mode"
	step "cache=$mode: compile" strict compile "/mnt/9p/$mode"
	step "cache=$mode: users" strict users "/mnt/9p/$mode"
	step "cache=$mode: unmount" umount /mnt/9p
done
step "access=client" attach "access=client,posixacl,cache=none"
step "users" strict users /mnt/9p
step "unmount" umount /mnt/9p
step "access=any" attach "access=any,uname=root"
step "remove trees of all modes" rm -r "${modes[@]/#//mnt/9p/}"
step "unmount" umount /mnt/9p

step "mount twice" attach access=user
step "mount twice" attach access=user /mnt/b
# two: what one mount does the other sees; locks hold between them. (A lock that a process takes on a file
# which it leaves open to others goes with the process: v9fs makes flock a lock of the process.)
two() {
	echo from a >/mnt/9p/shared
	[ "$(</mnt/b/shared)" = "from a" ]
	echo and b >>/mnt/b/shared
	[ "$(</mnt/9p/shared)" = $'from a\nand b' ]
	flock -x /mnt/9p/shared sleep 3 &
	until fails flock -n -x /mnt/b/shared true; do sleep 0.1; done
	fails flock -n -s /mnt/b/shared true
	local begun=$EPOCHREALTIME
	flock -w 60 -x /mnt/b/shared true # is told at once: v9fs asks again after 30 s only
	[ $(((${EPOCHREALTIME/./} - ${begun/./}) / 1000000)) -lt 25 ]
	wait
	flock -n -x /mnt/9p/shared true
	flock -s /mnt/9p/shared flock -n -s /mnt/b/shared true
}
step "two mounts" strict two
mkdir /mnt/9p/sub /mnt/9p/sub/in
umount /mnt/b
step "mount a subdirectory" attach access=user,aname=/sub /mnt/b
[ -d /mnt/b/in ]
fails [ -e /mnt/b/shared ]
umount /mnt/b

# The table of POSIX behaviours, but for what this kernel's client refuses by itself.
skip='EXCHANGE|NOREPLACE|exchanged|fallocate/|acl/|lseek/|stat/blocks|lock/flock and fcntl'
export GODEBUG=asyncpreemptoff=1
step "test/posix" env ZEROFS_POSIX_DIR=/mnt/9p ZEROFS_POSIX_SKIP="$skip" "$VM_DIR/../../bin/posix.test"

# The server ends in good order, and dies while files are written. What was synced is there.
step "unmount" umount /mnt/9p
step "stop" expect stop 0
step "start" expect start serving
step "mount" attach access=user
step "files" verify /mnt/9p
mkdir /mnt/9p/w
(for i in {1..500}; do dd if=/dev/urandom "of=/mnt/9p/w/$i" bs=64k count=4 conv=fsync status=none || exit 0; echo "$i" >/tmp/synced; done) 2>/dev/null &
until grep -q '..' /tmp/synced 2>/dev/null; do sleep 0.1; done # ten at least
step "kill -9 in mid-write" beside kill
wait $!
synced=$(</tmp/synced)
umount -l /mnt/9p
step "start" expect start serving
step "mount" attach access=user
for ((i = 1; i <= synced; i++)); do
	[ "$(stat -c %s "/mnt/9p/w/$i")" = 262144 ] || { echo "synced file $i is lost"; exit 1; }
done
echo "$synced files were synced before the server died"
step "files" verify /mnt/9p
step "remove all" rm -r /mnt/9p/w /mnt/9p/tree /mnt/9p/sub
step "unmount" umount /mnt/9p
[ "$(number fids)" = 0 ]
step "stop" expect stop 0
echo "9P client: all well"
