#!/bin/sh
# Compares the NBD server with nbdkit's memory plugin: the same fio jobs, in turns, on both.
#
#   benchmarks/nbd/run.sh [seconds per job] [rounds]
#
# Needs go, fio with its nbd engine, and nbdkit. Prints one line per job and round:
# server, job, operations per second, p50 and p99 in microseconds.
set -eu
seconds=${1:-5} rounds=${2:-2}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; rm -rf "$work"' EXIT

(cd "$here/../.." && CGO_ENABLED=0 go build -o "$work/nbd" ./benchmarks/nbd)

start() { # name command...
	name=$1
	shift
	"$@" &
	pids="$pids $!"
	while [ ! -S "$work/$name.sock" ]; do sleep 0.1; done
}
start ours "$work/nbd" -socket "$work/ours.sock"
start ours-slow "$work/nbd" -socket "$work/ours-slow.sock" -fast=false
start nbdkit nbdkit -f -U "$work/nbdkit.sock" memory 1G

job() { # server job options...
	server=$1 job=$2
	shift 2
	fio --name="$job" --ioengine=nbd --uri="nbd+unix:///?socket=$work/$server.sock" --size=1G \
		--time_based --runtime="$seconds" --output-format=json --output="$work/out" "$@" >/dev/null
	python3 - "$work/out" "$server" "$job" <<'PY'
import json, sys
job = json.load(open(sys.argv[1]))["jobs"][0]
d = max((job["read"], job["write"]), key=lambda d: d["total_ios"])
p = d["clat_ns"]["percentile"]
print(f"{sys.argv[2]:10} {sys.argv[3]:18} {d['iops']:9.0f} ops/s  {d['bw']/1024:8.0f} MiB/s"
      f"  p50 {p['50.000000']/1000:8.1f} us  p99 {p['99.000000']/1000:8.1f} us")
PY
}

for round in $(seq "$rounds"); do
	for s in ours ours-slow nbdkit; do
		job $s fill-1m-qd4 --rw=write --bs=1M --iodepth=4
		job $s randread-4k-qd32 --rw=randread --bs=4k --iodepth=32
		job $s randread-4k-qd1 --rw=randread --bs=4k --iodepth=1
		job $s randwrite-4k-qd1 --rw=randwrite --bs=4k --iodepth=1
		job $s randwrite-4k-qd32 --rw=randwrite --bs=4k --iodepth=32
		job $s read-1m-qd4 --rw=read --bs=1M --iodepth=4
	done
done
