# Three images: `service`, `nginx` with the page, and `model`, the small local model.
#
#   docker build --target service .
#
# Each has only the packages of the lock files, and no compiler, package installer or secret. They run as user 10001 on
# a read-only file system with no capabilities. Each stage names the directories that it writes to.

FROM python:3.13-slim-trixie AS python
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/app/.venv/bin:$PATH
WORKDIR /app


FROM python AS uv
ARG UV_VERSION=0.13.9
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache \
    python -m pip install "uv==$UV_VERSION"
# Compiled here, because the image runs on a read-only file system.
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/app/.venv
COPY pyproject.toml uv.lock ./


FROM uv AS service-packages
RUN --mount=type=cache,target=/root/.cache \
    uv sync --frozen --no-default-groups --extra tracing
COPY service service
RUN python -m compileall -q service


FROM uv AS model-packages
RUN --mount=type=cache,target=/root/.cache \
    uv sync --frozen --only-group model


# On the build machine's platform: the page is the same for all platforms.
FROM --platform=$BUILDPLATFORM node:24-trixie-slim AS page
WORKDIR /page
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN --mount=type=cache,target=/root/.npm \
    npm ci --ignore-scripts
COPY frontend ./
RUN npm run build


FROM python AS runtime
RUN python -m pip uninstall --yes --root-user-action=ignore pip \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin folyam


# Writes to /var/lib/folyam, a volume with the answers that all replicas share, and to /dev/shm and /tmp.
FROM runtime AS service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Folyam" \
      org.opencontainers.image.description="Streams a language model's answer, and does not lose it" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="MIT"
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/folyam
COPY --from=service-packages /app/.venv .venv
COPY deploy/gunicorn.conf.py deploy/gunicorn.conf.py
COPY --from=service-packages /app/service service
# The logs are in /var/lib/folyam/answers, unless FOLYAM_LOG_URL says otherwise.
ENV XDG_STATE_HOME=/var/lib
USER 10001:10001
EXPOSE 8000
# The same request as a platform's readiness probe. It does not depend on the upstream.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
# Other containers reach the service at any address of this one, also if FOLYAM_BIND is set and has only blanks.
CMD ["sh", "-c", "case \"${FOLYAM_BIND:-}\" in *[![:space:]]*) ;; *) export FOLYAM_BIND=0.0.0.0:8000 ;; esac; exec gunicorn --config deploy/gunicorn.conf.py"]


# Writes to /tmp only.
FROM nginx:1.30-trixie AS nginx
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Folyam's door" \
      org.opencontainers.image.description="nginx with Folyam's page, in front of its service" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="MIT"
COPY --chmod=0755 deploy/nginx/start.sh /usr/local/bin/start-nginx
COPY nginx.conf /etc/folyam/nginx.conf
COPY --from=page /page/dist /usr/share/folyam
USER 10001:10001
EXPOSE 8080
# QUIT lets open streams end; TERM would cut them.
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8080/"]
ENTRYPOINT ["/usr/local/bin/start-nginx"]


# Writes to /tmp only.
FROM runtime AS model
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Folyam's local model" \
      org.opencontainers.image.description="SmolLM2-135M-Instruct on llama.cpp's server" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="MIT AND Apache-2.0"
# llama.cpp needs GNU's OpenMP library, of which each Debian has one version.
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update && apt-get install --yes --no-install-recommends libgomp1
COPY --from=model-packages /app/.venv .venv
COPY deploy/local/model.py model.py
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# It stores nothing. As a container's first process, Python would ignore TERM.
STOPSIGNAL SIGKILL
CMD ["python", "model.py", "--host", "0.0.0.0", "--port", "8000"]
