#!/bin/sh
# timed.sh NAME COMMAND…: runs the command, tells how long it took, and passes its exit status on.
name=$1
shift
began=$(date +%s)
"$@"
status=$?
echo "== $name: $(($(date +%s) - began)) s, exit status $status"
exit "$status"
