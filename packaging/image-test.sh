#!/usr/bin/env bash
# Builds the images from their unmodified Dockerfiles and uses them, without a Docker engine.
#
#   packaging/image-test.sh                  both
#   packaging/image-test.sh Dockerfile       one of them
#
# For root on Debian. The READMEs' own lines are run; buildah builds and podman runs in the name of
# `docker`, and `python:3.13-slim` is stood in for by Debian 13,
# which it is made from, with the same Python and, like it, without the standard library's bytecode.
# A short name is looked for among the machine's own images first.
# PYTHON is a Python with xrayd's test dependencies; the work lies in $XRAYD_CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath --no-symlinks "$(command -v "${PYTHON:-.venv/bin/python}")")
cache=${XRAYD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xrayd-packaging}
base=localhost/python:3.13-slim
files=("$@")
[ ${#files[@]} -gt 0 ] || files=(Dockerfile packaging/scratch.Dockerfile)

.ci/need buildah crun podman containernetworking-plugins iptables mmdebstrap iproute2 ca-certificates
mkdir -p "$cache/bin" /var/lib/cni

# Storage of its own: nothing of the machine's own containers is touched.
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/images"\nrunroot = "%s/run"\n' \
  "$cache" "$cache" >"$cache/storage.conf"
cat >"$cache/containers.conf" <<CONTAINERS
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "cni"
network_config_dir = "$cache/networks"
cni_plugin_dirs = ["/usr/lib/cni"]
CONTAINERS
export CONTAINERS_STORAGE_CONF=$cache/storage.conf CONTAINERS_CONF=$cache/containers.conf

# The host's list of certificate authorities counts in a build, as it does for every other download
# this machine makes. XRAYD_RUN_OPTIONS is how a test passes on what the fake X-Ray is called.
cat >"$cache/bin/docker" <<'DOCKER'
#!/bin/sh
authorities=/etc/ssl/certs/ca-certificates.crt
command=$1
shift
case $command in
  build) exec buildah build --quiet --pull-never --isolation chroot --format docker \
    --volume "$authorities:$authorities:ro" "$@" ;;
  # shellcheck disable=SC2086 # they are words
  run) exec podman --runtime crun --log-level fatal run --cgroups=disabled --health-interval=disable \
    --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 $XRAYD_RUN_OPTIONS "$@" ;;
esac
DOCKER
chmod +x "$cache/bin/docker"
PATH=$cache/bin:$PATH

build_line() { # Dockerfile: the README's words that build it
  case $1 in
    Dockerfile) sed -n 's/^| container | `\(docker build .*\) && .*/\1/p' README.md ;;
    *) grep -oE "docker build -f $1 [^\`]*" packaging/README.md ;;
  esac
}

import_base() {
  local context=$cache/base
  rm -rf "$context" && mkdir "$context"
  # shellcheck disable=SC2016 # mmdebstrap's shell expands $1
  mmdebstrap --quiet --variant=minbase \
    --include=python3,python3-venv,python3-pip,libpython3.13,ca-certificates,netbase,tzdata \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python3"' \
    --customize-hook='find "$1/usr/lib" -name "*.pyc" -delete' \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    trixie "$context/base.tar" >"$cache/base.log" 2>&1 || { cat "$cache/base.log"; exit 1; }
  printf 'FROM scratch\nADD base.tar /\nENV PATH=%s LANG=C.UTF-8\nCMD ["python3"]\n' \
    /usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin >"$context/Dockerfile"
  buildah build --quiet --isolation chroot --tag "$base" "$context" >/dev/null
  rm -r "$context"
}

# A network of its own, so that port 2000 is free; a mount namespace of its own, in which podman
# does not see the second cgroup tree that it cannot work with, and leaves no addresses taken.
apart() {
  unshare --mount --net --propagation private bash -euc '
    ip link set lo up
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    mount -t tmpfs cni /var/lib/cni
    exec "$@"' bash "$@"
}

buildah inspect --type image "$base" >/dev/null 2>&1 || import_base
if ! apart podman --runtime crun run --rm --cgroups=disabled --ulimit nofile=1024:1024 \
  --ulimit nproc=1024:1024 --network none "$base" python3 -c '' >"$cache/probe.log" 2>&1; then
  echo "skipped, for this machine runs no containers: $(tail -n 1 "$cache/probe.log")" >&2
  exit 0
fi

for file in "${files[@]}"; do
  line=$(build_line "$file")
  name=localhost/$(sed -E 's/.* -t ([^ ]+) .*/\1/' <<<"$line")
  began=$SECONDS
  bash -c "$line" >"$cache/build.log" 2>&1 || { cat "$cache/build.log"; exit 1; }
  echo "$line: $((SECONDS - began)) s"
  XRAYD_IMAGE=$name apart "$python" -m pytest -n 0 -m root -rA --no-header -q \
    tests/packaging/test_image_live.py
done
