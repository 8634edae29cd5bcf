# xrayd's image. Entry point, ports, paths and user are those of the original X-Ray daemon's image,
# so it takes that image's place without another change.
#
#   docker build -t xrayd .
#   docker buildx build --platform linux/amd64,linux/arm64 -t xrayd .
#
# A smaller image without a Python installation in it: packaging/scratch.Dockerfile.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
COPY packaging/requirements.txt packaging/requirements-build.txt packaging/
RUN python -m venv --without-pip /opt/xrayd \
 && python -m venv --without-pip /opt/build \
 && python -m pip --python /opt/xrayd/bin/python install --quiet --no-compile \
      --only-binary=:all: --require-hashes -r packaging/requirements.txt \
 && python -m pip --python /opt/build/bin/python install --quiet \
      --only-binary=:all: --require-hashes -r packaging/requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY xrayd xrayd
COPY packaging/trim.py packaging/
RUN python -m pip --python /opt/build/bin/python wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist . \
 && python -m pip --python /opt/xrayd/bin/python install --quiet --no-compile --no-deps --no-index \
      /dist/xrayd-*.whl \
 && python packaging/trim.py /opt/xrayd \
 && find /opt/xrayd -name '*.so' -exec strip --strip-unneeded {} +

FROM python:${PYTHON}-slim
COPY --from=build /opt/xrayd /opt/xrayd
COPY packaging/cfg.yaml /etc/amazon/xray/cfg.yaml
# The slim image comes without the standard library's bytecode, and a non-root process on a
# read-only root can never write any: without this step each start compiles everything again.
# Hash-based, because builders round modification times and so void the other kind.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      -x '/(site-packages/pip|ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" /opt/xrayd \
 && groupadd --system --gid 10001 xray \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/xray --no-create-home \
      --shell /usr/sbin/nologin xray \
 && install -d -o xray -g xray -m 0750 /var/lib/xray \
 && ln -s /opt/xrayd/bin/xrayd /usr/bin/xrayd \
 && ln -s /opt/xrayd/bin/xrayd /usr/bin/xray \
 && ln -s /opt/xrayd/bin/xrayd /xray
# Where `dev` keeps its data, and a spool has its place: the one directory the user owns.
ENV XDG_DATA_HOME=/var/lib/xray
USER 10001:10001
EXPOSE 2000/udp 2000/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
  CMD ["/usr/bin/xrayd", "healthcheck"]
ENTRYPOINT ["/xray", "-t", "0.0.0.0:2000", "-b", "0.0.0.0:2000"]
