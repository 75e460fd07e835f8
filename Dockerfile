# syntax=docker/dockerfile:1
# docker build -t sessionmanager --build-arg REVISION="$(git rev-parse HEAD)" .
# What it is made of is locked by hash in requirements/; docs/how-to/containers.md says how to run it.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_REQUIRE_HASHES=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Without pip in it: nothing can be added to what is locked. It changes seldom, so that it stands before the source.
COPY requirements/runtime.txt requirements/build.txt requirements/image.txt requirements/
RUN python -m venv --without-pip /opt/sessionmanager \
    && python -m pip --python /opt/sessionmanager/bin/python install --no-deps -r requirements/runtime.txt \
    && python -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --no-deps -r requirements/build.txt \
    && /opt/tools/bin/python -m pip install --no-deps -r requirements/image.txt

COPY pyproject.toml README.md LICENSE ./
COPY sessionmanager sessionmanager
# The wheel is our own and has no hash yet; nothing else is taken in by this step.
RUN PIP_REQUIRE_HASHES=0 /opt/tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
    && PIP_REQUIRE_HASHES=0 python -m pip --python /opt/sessionmanager/bin/python install --no-deps --no-index \
        --find-links /opt/wheel sessionmanager \
    && /opt/sessionmanager/bin/python -m compileall -q /opt/sessionmanager/lib \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --spec-version 1.6 --output-format JSON \
        --output-file /opt/sessionmanager/sbom.cdx.json /opt/sessionmanager/bin/python \
    && /opt/sessionmanager/bin/sessionmanager --version

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS image
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="sessionmanager" \
    org.opencontainers.image.description="A service that owns conversations: every turn durable, every session resumable." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.licenses="Apache-2.0"

# A user that owns nothing but its data, and no installer: the root file system may be read-only.
RUN groupadd --system --gid 10001 sessionmanager \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin sessionmanager \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data \
    && python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
    && rm -rf /usr/local/lib/python3*/ensurepip
COPY --from=build /opt/sessionmanager /opt/sessionmanager
COPY --chmod=0755 deploy/entrypoint.sh /usr/local/bin/entrypoint
COPY deploy/healthcheck.py /opt/sessionmanager/healthcheck.py
ENV PATH=/opt/sessionmanager/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATA_DIR=/data \
    SERVER_HOST=0.0.0.0
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=1s --retries=3 \
    CMD ["python", "/opt/sessionmanager/healthcheck.py"]
ENTRYPOINT ["entrypoint"]
CMD ["serve"]
