#!/bin/sh
# Runs every fuzzer of the module for $FUZZTIME each.
set -eu
: "${GO:=go}" "${FUZZTIME:=20s}"
export CGO_ENABLED=0
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
	for f in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go); do
		echo "== $dir $f"
		"$GO" test "$dir" -run '^$' -fuzz "^$f\$" -fuzztime "$FUZZTIME"
	done
done
