#!/bin/bash
# Elastic Beanstalk (Amazon Linux 2023): puts xrayd in the place of the platform's X-Ray daemon.
#
# The platform's unit, xray.service, stays; a drop-in changes what it runs. The platform goes on
# starting and stopping it by that name. If xrayd cannot run here, or does not come up, the
# platform's own daemon keeps or gets back its place. This script never fails a deployment.
#
# Undo: set the environment property XRAYD_TAKEOVER to off. Removing the files from the application
# changes new instances only.
#
# The same file stands in .platform/hooks/prebuild and .platform/confighooks/prebuild; the program
# is .platform/files/xrayd.tar.gz, one of xrayd's release files.
set -uo pipefail

unit=xray.service
dropin=/etc/systemd/system/$unit.d/50-xrayd.conf
home=/opt/xrayd

say() { echo "xrayd: $*" >&2; }

keep() {
  say "$*: the platform's own X-Ray daemon stays"
  rm -rf "$home/new"
  exit 0
}

restore() { # how: restart, or try-restart if it runs
  [ -e "$dropin" ] || return 0
  rm -f "$dropin"
  rmdir --ignore-fail-on-non-empty "${dropin%/*}"
  systemctl daemon-reload
  systemctl "$1" "$unit"
}

# Everything loaded, ports bound, configuration read: on ports nobody else has, for two seconds, and
# without the environment's properties, among which may be a spool's directory.
runs_here() {
  "$1" --version >/dev/null || return 1
  timeout 2 env -i PATH="$PATH" "$1" -o -n us-east-1 -b 127.0.0.1:0 -t 127.0.0.1:0 >/dev/null
  [ $? -eq 124 ]
}

is_up() {
  for _ in $(seq 20); do
    systemctl is-active --quiet "$unit" && "$home/current/xray" healthcheck >/dev/null 2>&1 && return 0
    sleep 0.5
  done
  return 1
}

if [ "${XRAYD_TAKEOVER:-on}" = off ]; then
  restore try-restart
  rm -rf "$home"
  say "XRAYD_TAKEOVER is off: the platform's own X-Ray daemon is in its place"
  exit 0
fi

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
archive=$here/../../files/xrayd.tar.gz
[ -f "$archive" ] || keep "no .platform/files/xrayd.tar.gz in the application"
systemctl cat "$unit" >/dev/null 2>&1 || keep "this platform has no $unit"

digest=$(sha256sum "$archive") || keep "cannot read the program's archive"
release=$home/${digest:0:16}

if [ ! -x "$release/xray" ]; then
  rm -rf "$home/new"
  mkdir -p "$home/new" || keep "cannot write to $home"
  tar -xzf "$archive" -C "$home/new" --strip-components=1 --no-same-owner || keep "cannot unpack it"
  chmod 0755 "$home" "$home/new"
  runs_here "$home/new/xray" || keep "it does not run on this machine"
  rm -rf "$release"
  mv "$home/new" "$release"
fi

before=$(readlink "$home/current")$(cat "$dropin" 2>/dev/null)
ln -sfn "$release" "$home/current"
mkdir -p "${dropin%/*}"
cat >"$dropin" <<'DROPIN'
# Written by xrayd's Elastic Beanstalk hook; without this file the platform's own daemon runs.
[Unit]
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=
ExecStart=/opt/xrayd/current/xray -f /var/log/xray/xray.log
Environment=XRAYD_SPOOL_DIRECTORY=/var/lib/xray/spool
StateDirectory=xray
Restart=always
RestartSec=1s
WatchdogSec=30s
TimeoutStartSec=20s
TimeoutStopSec=30s
MemoryMax=256M
DROPIN

if [ "$before" = "$release$(cat "$dropin")" ]; then
  say "already in place"
  exit 0
fi
systemctl daemon-reload
if [ "$(systemctl show --property ActiveState --value "$unit")" != inactive ]; then
  systemctl restart "$unit"
  if ! is_up; then
    restore restart
    keep "it did not come up as $unit"
  fi
fi
find "$home" -mindepth 1 -maxdepth 1 -type d ! -path "$release" -exec rm -rf {} +
say "in place as $unit"
