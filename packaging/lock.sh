#!/usr/bin/env bash
# Writes the hash-pinned lists that images and packages are built from. Needs uv.
#
#   packaging/lock.sh              keep versions that still satisfy pyproject.toml
#   packaging/lock.sh --upgrade    take the newest versions
#
# The lists name no index and no address: they hold wherever they are installed from.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # source, output, then more arguments to uv
  local source=$1 output=$2
  shift 2
  uv pip compile "$source" --quiet --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-emit-index-url --no-emit-find-links \
    --custom-compile-command packaging/lock.sh --output-file "$output" "$@"
}

lock pyproject.toml packaging/requirements.txt "$@"
lock packaging/requirements-build.in packaging/requirements-build.txt "$@"
lock packaging/requirements-freeze.in packaging/requirements-freeze.txt "$@"
lock packaging/requirements-release.in packaging/requirements-release.txt "$@"
