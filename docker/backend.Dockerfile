# The backend: one binary, with the page and the migrations embedded, and the shared libraries that it needs.
#
#   docker build -f docker/backend.Dockerfile -t smilingchat-backend:0.1.0 .

FROM rust:1.95-slim-trixie AS build
WORKDIR /build
# Symbols make up a fifth of the binary. Without them, a panic still reports its file and line.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols

# The dependencies are built before our sources are copied, so they are rebuilt only when Cargo.toml or Cargo.lock
# changes. Cargo needs one source file each for the library, the program and the benchmark.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/server \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs benches/server/main.rs \
    && cargo build --release --locked --bin smilingchat \
    && rm -r src

COPY src src
COPY sql sql
COPY web web
# Cargo compares modification times, and the copied files may be older than the stand-ins above.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin smilingchat

# The only system files that the binary needs: its shared libraries and their loader, whose paths depend on the
# architecture.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN mkdir -p /runtime/tmp \
    && chmod 1777 /runtime/tmp \
    && ldd target/release/smilingchat | grep -o '/[^ ]*' | xargs cp --dereference --parents --target-directory /runtime \
    && cp target/release/smilingchat /runtime/

FROM scratch
COPY --from=build /runtime /
USER 65532:65532
# Listens on every IPv4 address and, where available, on every IPv6 address.
ENV SMILINGCHAT_LISTEN=[::]:8080 \
    SMILINGCHAT_OPS_LISTEN=[::]:9090
EXPOSE 8080 9090
# Liveness instead of readiness: Swarm kills unhealthy containers, and a database outage must not kill all replicas.
HEALTHCHECK --interval=3s --timeout=5s --retries=3 --start-period=5s \
    CMD ["/smilingchat", "check", "--url", "http://127.0.0.1:9090/livez"]
ENTRYPOINT ["/smilingchat"]
# VERSION is the version in Cargo.toml. REVISION, the commit, comes from docker/bake.hcl or
# `--build-arg REVISION="$(git rev-parse HEAD)"`.
ARG VERSION=0.1.0 REVISION=""
LABEL org.opencontainers.image.title="TheSmilingChat: backend" \
    org.opencontainers.image.description="A realtime WebSocket chat server that never loses, duplicates or reorders a message, even when its replicas crash" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
