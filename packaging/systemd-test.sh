#!/usr/bin/env bash
# Boots systemd in a container and lives through what a host does with xrayd's packages: installed
# over an older one, used, killed, reloaded, upgraded, removed, purged; and Elastic Beanstalk's hook.
#
#   packaging/systemd-test.sh [DIRECTORY]
#
# DIRECTORY holds what `PREVIOUS_VERSION=0.0.1 packaging/build-packages.sh DIRECTORY` made; without
# it, that is done first. For root on Debian; PYTHON is a Python with xrayd's test dependencies; the
# work lies in $XRAYD_CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath --no-symlinks "$(command -v "${PYTHON:-.venv/bin/python}")")
cache=${XRAYD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xrayd-packaging}
root=$cache/systemd-root
results=$cache/systemd-results

.ci/need systemd-container mmdebstrap binutils
mkdir -p "$cache"

make_root() {
  rm -rf "$root" "$root.new"
  mmdebstrap --quiet --variant=minbase --format=directory \
    --include=systemd,systemd-sysv,dbus,python3,python3-pytest,iproute2,netbase,passwd,login,rpm,zlib1g \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$root.new" >"$cache/systemd-root.log" 2>&1 || { cat "$cache/systemd-root.log"; exit 1; }
  mv "$root.new" "$root"
}
# Beside the packages: the one waits for downloads, the other computes.
rooting=
if [ ! -e "$root/etc/os-release" ]; then
  make_root &
  rooting=$!
  trap 'kill "$rooting" 2>/dev/null || true' EXIT
fi
if [ $# -gt 0 ]; then
  packages=$(cd "$1" && pwd)
else
  packages=$cache/packages
  rm -rf "$packages"
  # Debian's own Python comes without the library that is frozen in.
  interpreter=$(readlink -f "$python")
  case $interpreter in /usr/bin/python3.*) .ci/need "lib${interpreter##*/}" ;; esac
  began=$SECONDS
  PYTHON=$python PREVIOUS_VERSION=0.0.1 packaging/build-packages.sh "$packages"
  echo "packages: made in $((SECONDS - began)) s"
fi

# The frozen program by itself, first: what is missing in it is plainest here.
began=$SECONDS
frozen=$cache/frozen
rm -rf "$frozen" && mkdir "$frozen"
tar -xzf "$packages"/xrayd-*-linux-*.tar.gz --strip-components=1 -C "$frozen"
XRAYD_FROZEN=$frozen/xray "$python" -m pytest -n 2 -m root -rA --no-header -q \
  tests/packaging/test_frozen_live.py >"$cache/frozen.log" || { cat "$cache/frozen.log"; exit 1; }
grep -E '^(measured|[0-9]+ passed)' "$cache/frozen.log"
echo "archive: unpacked and used in $((SECONDS - began)) s"

if [ -n "$rooting" ]; then
  wait "$rooting"
  trap - EXIT
fi
if ! systemd-nspawn --quiet --directory="$root" --volatile=overlay --register=no --keep-unit \
  --private-network --console=pipe --as-pid2 true </dev/null >"$cache/probe.log" 2>&1; then
  echo "skipped, for this machine starts no systemd-nspawn container: $(tail -n 1 "$cache/probe.log")" >&2
  exit 0
fi

# The checks are a unit of their own, whose end ends the boot.
cat >"$root/etc/systemd/system/check.service" <<'UNIT'
[Unit]
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=77
[Service]
Type=oneshot
TimeoutStartSec=300
StandardOutput=append:/results/report
StandardError=append:/results/report
Environment=XRAYD_BOOT=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/source/tests:/source/tests/packaging
ExecStart=/bin/sh -c "exec python3 -m pytest -c /dev/null --rootdir=/source --noconftest -p no:cacheprovider -W ignore -rA --no-header -q /source/tests/packaging/boots/test_$(cat /results/scenario).py"
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../check.service "$root/etc/systemd/system/multi-user.target.wants/check.service"

failed=0
for scenario in deb rpm beanstalk; do
  rm -rf "$results" && mkdir "$results"
  echo "$scenario" >"$results/scenario"
  began=$SECONDS
  status=0
  # All it writes goes to memory: the next boot finds the same root.
  systemd-nspawn --quiet --directory="$root" --volatile=overlay --register=no --keep-unit \
    --private-network --console=pipe --bind="$results:/results" --bind-ro="$packages:/packages" \
    --bind-ro="$PWD:/source" --boot </dev/null >"$results/console" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then
    echo "$scenario: booted, checked and down in $((SECONDS - began)) s"
    grep -E '^(measured|[0-9]+ passed)' "$results/report" || true
  else
    failed=1
    echo "$scenario: failed ($status) after $((SECONDS - began)) s"
    cat "$results/report" 2>/dev/null || tail -50 "$results/console"
  fi
done
# What systemd-nspawn leaves where both cgroup trees are mounted.
for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  for leaf in payload supervisor; do
    if [ -d "$tree/$leaf" ]; then find "$tree/$leaf" -depth -type d -exec rmdir {} + 2>/dev/null || true; fi
  done
done
exit "$failed"
