# The gateway, and every other verb of fencegate, in a small image.
#
#     docker build -t fencegate .
#     docker run --rm fencegate --help
#
# `serve` listens on 127.0.0.1 of the container unless FENCEGATE_LISTEN says otherwise; for 0.0.0.0 it wants clients and
# TLS, or to be told that it needs neither (docs/security.md).

FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
# .cargo/config.toml has a stand-in for protoc, so nothing else is needed.
RUN cargo build --release --locked --features otel --bin fencegate \
    && install -s target/release/fencegate /usr/local/bin/fencegate

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 7411 --no-create-home --shell /usr/sbin/nologin fencegate \
    && install -d -o fencegate /var/lib/fencegate
COPY --from=build /usr/local/bin/fencegate /usr/local/bin/fencegate
USER 7411
# Where fencegate.db is made if no store is named, and fencegate.toml is looked for.
WORKDIR /var/lib/fencegate
EXPOSE 7411
# Told by SIGTERM, it finishes what is under way; give it longer than --drain-notice and --drain-timeout together.
STOPSIGNAL SIGTERM
# Whether the process serves. Whether its store and lock service are there is /readyz, for load balancers: a
# restart would not bring them back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:7411/livez"]
ENTRYPOINT ["fencegate"]
CMD ["serve"]
