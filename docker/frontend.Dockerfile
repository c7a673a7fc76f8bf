# The frontend: nginx serves the page and passes /ws, /ping and /api/ on to the replicas.
#
#   docker build -f docker/frontend.Dockerfile -t smilingchat-frontend:0.1.0 .

# name-version prefixes the page's links to files with a hash of the page's contents, so caches can keep the files.
FROM debian:13-slim AS page
# zopfli is not pinned, because a Debian release changes a package only to fix bugs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends zopfli \
    && rm -rf /var/lib/apt/lists/*
COPY web /page
COPY docker/nginx/name-version /
RUN /name-version /page

FROM nginxinc/nginx-unprivileged:1.30-alpine-slim
# The DNS name and the port of the replicas, and the name server. These defaults are for Docker. listen.envsh sets
# LISTEN_IPV6.
ENV BACKEND=backend:8080 \
    RESOLVER=127.0.0.11 \
    LISTEN_IPV6="" \
    NGINX_ENVSUBST_FILTER=^(BACKEND|RESOLVER|LISTEN_IPV6)$
COPY docker/nginx/nginx.conf /etc/nginx/nginx.conf
COPY docker/nginx/listen.envsh /docker-entrypoint.d/15-listen.envsh
COPY docker/nginx/default.conf.template /etc/nginx/templates/default.conf.template
COPY --from=page /page /usr/share/nginx/html
# VERSION is the version in Cargo.toml. REVISION, the commit, comes from docker/bake.hcl or
# `--build-arg REVISION="$(git rev-parse HEAD)"`.
ARG VERSION=0.1.0 REVISION=""
LABEL org.opencontainers.image.title="TheSmilingChat: frontend" \
    org.opencontainers.image.description="nginx that serves the page of TheSmilingChat and routes sessions to the replicas" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
