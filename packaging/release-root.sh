#!/usr/bin/env bash
# Makes the old machine that release packages are frozen on: Debian 11, whose C library (2.31) is older
# than Amazon Linux 2023's (2.34), with today's Python and OpenSSL built from Debian 13's sources.
#
#   packaging/release-root.sh DIRECTORY
#
# For root on Debian; about twelve minutes on two cores. Does nothing where DIRECTORY is complete.
set -euo pipefail

root=$1
[ -e "$root/opt/python/complete" ] && exit 0
"$(dirname "$0")/../.ci/need" mmdebstrap ca-certificates
rm -rf "$root"
mkdir -p "$(dirname "$root")"
log=$root.log

# zlib1g-dev and the rest are what Python's own modules are built with.
mmdebstrap --quiet --variant=minbase --format=directory \
  --include=build-essential,ca-certificates,libbz2-dev,libffi-dev,liblzma-dev,libsqlite3-dev,uuid-dev,xz-utils,zlib1g-dev \
  bullseye "$root" >"$log" 2>&1 || { cat "$log"; exit 1; }

# Sources come from the mirror this machine uses, checked against Debian's signatures.
sources=$root/usr/src
# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/$' | head -1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keys] $mirror trixie main" >"$sources/sources.list"
mkdir -p "$sources/lists/partial" "$sources/down"
options=(-qq -o "Dir::Etc::sourcelist=$sources/sources.list" -o Dir::Etc::sourceparts=-
  -o "Dir::State::lists=$sources/lists" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$sources/down" && apt-get "${options[@]}" source --download-only openssl python3.13)

cat >"$sources/build.sh" <<'BUILD'
set -euo pipefail
cd /usr/src
unpack() { # name, pattern of the first of Debian's patches to apply
  mkdir "$1"
  tar -xf down/"$1"_*.orig.tar.?z --strip-components=1 -C "$1"
  tar -xf down/"$1"_*.debian.tar.xz -C "$1"
  cd "$1"
  sed -n "/$2/,\$p" debian/patches/series | grep -v '^#' | while read -r patch; do
    patch --quiet -p1 <"debian/patches/$patch"
  done
  cd ..
}
# Python's come after those that change where Debian's own is installed: they mend what was reported
# since its release.
unpack openssl .
unpack python3.13 '^CVE-'
jobs=$(nproc)
cd /usr/src/openssl
./Configure --prefix=/opt/python --libdir=lib --openssldir=/etc/ssl shared no-tests no-docs
make -s -j"$jobs"
make -s install_sw
cd /usr/src/python3.13
./configure -q --prefix=/opt/python --enable-shared --with-openssl=/opt/python \
  --without-static-libpython --disable-test-modules LDFLAGS=-Wl,-rpath,/opt/python/lib
make -s -j"$jobs"
make -s install
/opt/python/bin/python3 -c 'import bz2, ctypes, lzma, sqlite3, ssl, uuid, zlib; print(ssl.OPENSSL_VERSION)'
BUILD
# shellcheck disable=SC2016 # $1 is the inner shell's
unshare --mount --fork bash -euc 'mount -t proc proc "$1/proc"; exec chroot "$1" bash /usr/src/build.sh' \
  bash "$root" >>"$log" 2>&1 || { tail -50 "$log"; exit 1; }
tail -1 "$log"
rm -rf "$sources" && mkdir "$sources"
touch "$root/opt/python/complete"
