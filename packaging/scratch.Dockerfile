# The same image without a distribution or a Python in it: xrayd frozen, glibc, and nothing else.
# Build from the repository's top:
#   docker build -f packaging/scratch.Dockerfile -t xrayd:scratch .
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends binutils ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY packaging/requirements.txt packaging/requirements-freeze.txt packaging/
RUN python -m venv --without-pip /opt/xrayd \
 && python -m pip --python /opt/xrayd/bin/python install --quiet --only-binary=:all: \
      --require-hashes -r packaging/requirements.txt -r packaging/requirements-freeze.txt
COPY pyproject.toml README.md LICENSE ./
COPY xrayd xrayd
COPY packaging/trim.py packaging/freeze.spec packaging/frozen.py packaging/
RUN python -m pip --python /opt/xrayd/bin/python install --quiet --no-deps --no-build-isolation . \
 && python packaging/trim.py /opt/xrayd \
 && /opt/xrayd/bin/pyinstaller --log-level ERROR packaging/freeze.spec
COPY packaging/cfg.yaml /out/etc/amazon/xray/cfg.yaml
# The C library, and zlib for the loader, are found by asking, so that this holds on every
# architecture; PyInstaller has taken all others along.
WORKDIR /out
RUN mkdir -p usr/lib usr/bin etc/ssl/certs \
 && cp -a /src/dist/xrayd usr/lib/xrayd \
 && ln -s ../lib/xrayd/xray usr/bin/xray \
 && ln -s ../lib/xrayd/xray usr/bin/xrayd \
 && ln -s usr/lib/xrayd/xray xray \
 && { find usr/lib/xrayd -type f \( -name '*.so*' -o -name xray \) -exec ldd {} + || true; } \
      | grep -oE '\s/(usr/)?lib[^ ]*/(ld-linux|lib(c|dl|m|pthread|resolv|rt|util|z)\.so)[^ ]*' | sort -u \
      | xargs cp -L --parents -t . \
 && cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ \
 && echo 'xray:x:10001:10001::/var/lib/xray:/sbin/nologin' >etc/passwd \
 && echo 'xray:x:10001:' >etc/group \
 && echo 'hosts: files dns' >etc/nsswitch.conf \
 && install -d -m 1777 tmp \
 && install -d -o 10001 -g 10001 -m 0750 var/lib/xray

FROM scratch
COPY --from=build /out /
# Where `dev` keeps its data, and a spool has its place: the one directory the user owns.
ENV XDG_DATA_HOME=/var/lib/xray
USER 10001:10001
EXPOSE 2000/udp 2000/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
  CMD ["/usr/bin/xrayd", "healthcheck"]
ENTRYPOINT ["/xray", "-t", "0.0.0.0:2000", "-b", "0.0.0.0:2000"]
