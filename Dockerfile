# The stand-alone gateway. Configuration and keys come from /etc/lwm2m-gateway, the store is a volume:
#
#   docker build -t lwm2m-gateway .
#   docker run -p 5684:5684/udp -v ./gateway:/etc/lwm2m-gateway:ro -v store:/var/lib/lwm2m-gateway \
#       lwm2m-gateway
FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --target-dir /build \
    && strip --strip-unneeded /build/release/lwm2m-gateway

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 900 --home-dir /var/lib/lwm2m-gateway lwm2m-gateway \
    && install -d -o lwm2m-gateway -g lwm2m-gateway -m 700 /var/lib/lwm2m-gateway
COPY --from=build /build/release/lwm2m-gateway /usr/bin/
COPY packaging/container/gateway.toml /etc/lwm2m-gateway/gateway.toml
COPY LICENSE-MIT LICENSE-APACHE priv/oma/NOTICE /usr/share/doc/lwm2m-gateway/
USER 900
VOLUME /var/lib/lwm2m-gateway
EXPOSE 5683/udp 5684/udp 1883/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["/usr/bin/lwm2m-gateway", "healthcheck", "--config", "/etc/lwm2m-gateway/gateway.toml"]
ENTRYPOINT ["/usr/bin/lwm2m-gateway"]
CMD ["run", "--config", "/etc/lwm2m-gateway/gateway.toml"]
