#!/usr/bin/env bash
# Makes what is released, the same bytes from the same sources: archive, .deb, .rpm, wheel, sdist,
# a bill of materials and checksums.
#
#   packaging/build-packages.sh [DIRECTORY]      default: dist
#
# Needs binutils, and a PYTHON (default python3) of 3.11 or later with its shared library. The frozen
# program runs from the C library of the machine it was made on upward: .ci/release makes it on an
# old one. PREVIOUS_VERSION makes the same packages under another version as well, in
# DIRECTORY/previous, for the test of an upgrade. COMPRESSION=xz makes packages that older hosts can
# unpack as well, in half a minute more.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath --no-symlinks "$(command -v "${PYTHON:-python3}")")
mkdir -p "${1:-dist}"
out=$(cd "${1:-dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH PYTHONHASHSEED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
machine=$(uname -m)
case $machine in
  x86_64) PACKAGE_ARCH=amd64 ;;
  aarch64) PACKAGE_ARCH=arm64 ;;
  *) echo "build-packages: no packages for $machine" >&2; exit 1 ;;
esac
export PACKAGE_ARCH

# A copy, so that nothing is written among the sources and no path of theirs ends up in the program.
mkdir "$work/src"
cp -r LICENSE README.md CHANGELOG.md pyproject.toml xrayd packaging systemd "$work/src"
for optional in .ci .dockerignore tests Dockerfile config.example.yaml; do
  if [ -e "$optional" ]; then cp -r "$optional" "$work/src"; fi
done
find "$work/src" -name __pycache__ -prune -exec rm -rf {} +
cd "$work/src"

"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet)
"${pip[@]}" install --only-binary=:all: --require-hashes \
  -r packaging/requirements.txt -r packaging/requirements-freeze.txt
"${pip[@]}" install --only-binary=:all: --require-hashes -r packaging/requirements-release.txt
"$work/venv/bin/python" -m hatchling build -d "$work/dist" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; exit 1; }
"${pip[@]}" install --no-deps --no-index "$work"/dist/xrayd-*.whl
"$work/venv/bin/python" packaging/trim.py "$work/venv"
PACKAGE_VERSION=$("$work/venv/bin/python" -c 'import xrayd; print(xrayd.__version__)')
export PACKAGE_VERSION

"$work/venv/bin/pyinstaller" --log-level ERROR --distpath "$work/frozen" --workpath "$work/build" \
  packaging/freeze.spec
find "$work/frozen" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
GLIBC_MIN=$(find "$work/frozen" -type f \( -name '*.so*' -o -name xray \) -exec objdump -T {} + |
  grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | tail -1 | cut -d_ -f2)
export GLIBC_MIN

export STAGE=$work/stage
mkdir "$STAGE"
cp -a "$work/frozen/xrayd" "$STAGE/xrayd"
install -m 644 packaging/cfg.yaml systemd/xrayd.service systemd/xrayd.socket LICENSE "$STAGE"
pack() { # directory, compression
  sed "s/compression: gzip/compression: $2/" packaging/nfpm.yaml >"$work/nfpm.yaml"
  for format in deb rpm; do
    "$work/venv/bin/nfpm" package --config "$work/nfpm.yaml" --packager "$format" \
      --target "$1" >/dev/null
  done
}
pack "$out" "${COMPRESSION:-zstd:19}"
if [ -n "${PREVIOUS_VERSION:-}" ]; then
  mkdir -p "$out/previous"
  PACKAGE_VERSION=$PREVIOUS_VERSION pack "$out/previous" gzip
fi

archive=xrayd-$PACKAGE_VERSION-linux-$machine
mv "$work/frozen/xrayd" "$work/frozen/$archive"
install -m 644 LICENSE packaging/cfg.yaml "$work/frozen/$archive"
find "$work/frozen" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
tar --create --sort=name --owner=0 --group=0 --numeric-owner --format=gnu -C "$work/frozen" "$archive" |
  gzip --no-name --best >"$out/$archive.tar.gz"

cp "$work"/dist/xrayd-* "$out"
"$work/venv/bin/python" packaging/sbom.py "$STAGE/xrayd" >"$out/xrayd-$PACKAGE_VERSION.cdx.json"
cd "$out"
find . -maxdepth 1 -type f -name 'xrayd*' ! -name '*SUMS' -printf '%f\n' | sort | xargs sha256sum >SHA256SUMS
echo "needs glibc $GLIBC_MIN or later; $(du -sm "$STAGE/xrayd" | cut -f1) MB installed"
find . -maxdepth 1 -type f -name 'xrayd*' -printf '%10s  %f\n' | sort -k2
large=$(find . -maxdepth 1 -type f \( -name '*.deb' -o -name '*.rpm' -o -name '*.tar.gz' \) -size +15000000c)
[ -z "$large" ] || { echo "build-packages: over 15 MB: $large" >&2; exit 1; }
