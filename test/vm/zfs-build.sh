#!/bin/bash
# Builds OpenZFS for the user-mode Linux kernel, into the cache directory: minutes the first time,
# nothing afterwards. The module comes from Debian's contrib, read through package lists of its own;
# the machine's apt settings stay as they are. Remove the directory after user-mode-linux was upgraded.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
cache=${ZEROFS_VM_CACHE:-/var/tmp/zerofs-vm-cache}
[ ! -e "$cache/zfs/load" ] || exit 0
new=$cache/zfs.new log=$cache/zfs.log
rm -rf "$new"
mkdir -p "$new"
trap '[ $? = 0 ] || { tail -n 20 "$log" >&2; echo "zfs-build.sh: failed, see $log" >&2; }' EXIT
exec 3>&1 >"$log" 2>&1
cd "$new"

missing=()
for p in gcc libc6-dev make bc flex bison binutils xz-utils perl user-mode-linux; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" </dev/null
fi

# Package lists with contrib.
mkdir -p apt/lists/partial apt/cache/archives/partial apt/sources
for f in $(grep -l debian-archive-keyring /etc/apt/sources.list.d/*.sources); do
	sed 's/^Components:.*/Components: main contrib/' "$f" >"apt/sources/${f##*/}"
done
cat >apt/conf <<C
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$new/apt/sources";
Dir::State::lists "$new/apt/lists";
Dir::Cache "$new/apt/cache";
APT::Sandbox::User "root";
C
export APT_CONFIG=$new/apt/conf
apt-get -qq update
version=$(linux.uml --version | tail -n 1)
source=$(apt-cache madison linux-source-6.1 | awk -v v="$version" 'index($3, v "-") == 1 && !n++ { print $3 }')
[ -n "$source" ] || { echo "no kernel source of $version" >&3; exit 1; }
apt-get -qq download "linux-source-6.1=$source" zfs-dkms zfsutils-linux libzfs4linux libzpool5linux libnvpair3linux libuutil3linux
unset APT_CONFIG
for f in linux-source* zfs-dkms*; do dpkg -x "$f" src; rm "$f"; done
for f in ./*.deb; do dpkg -x "$f" root; rm "$f"; done

# A kernel tree, prepared as the installed kernel was built.
tar xf src/usr/src/linux-source-6.1.tar.xz --exclude='*/Documentation/*.rst' --exclude='*/drivers/gpu/*.[ch]' \
	--exclude='*/sound/*.[ch]' --exclude='*/tools/testing/*'
kernel=$new/linux-source-6.1
linux.uml --showconfig >"$kernel/.config"
export KBUILD_MODPOST_WARN=1 KCFLAGS=-g0
make -s -C "$kernel" ARCH=um olddefconfig
make -s -C "$kernel" ARCH=um -j"$(nproc)" modules_prepare
"$here/symvers.pl" "$(command -v linux.uml)" >"$kernel/Module.symvers"

# The makefiles of OpenZFS ask CONFIG_X86, which this kernel does not set, for the processor's code;
# this kernel renames setjmp and longjmp, for C only.
cd src/usr/src/zfs-*
ARCH=um ARCH_UM=ARCH=um ./configure -q --disable-dependency-tracking --with-config=kernel \
	--with-linux="$kernel" --with-linux-obj="$kernel"
make -s -C module -j"$(nproc)" ARCH=um CONFIG_X86=y KAFLAGS="-Dsetjmp=kernel_setjmp -Dlongjmp=kernel_longjmp"
mkdir "$new/modules"
find module -name '*.ko' -exec cp {} "$new/modules" \;
strip --strip-debug "$new"/modules/*.ko
cd "$new"
rm -rf src apt linux-source-6.1
cat >load <<'X'
# Sourced in the guest: loads ZFS, and sets the paths of zpool and zfs.
z=$VM_CACHE/zfs
for m in spl zavl znvpair zunicode zzstd zlua zcommon icp zfs; do insmod "$z/modules/$m.ko" || return; done
export LD_LIBRARY_PATH=$z/root/lib/x86_64-linux-gnu PATH=$z/root/sbin:$z/root/usr/sbin:$PATH
X
rm -rf "$cache/zfs"
mv "$new" "$cache/zfs"
