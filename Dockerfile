# Built with:  docker build -t outrigger .
# Run with:    docker run -p 8080:8080 -v ./outrigger.yaml:/etc/outrigger/outrigger.yaml:ro \
#                  -v outrigger:/var/lib/outrigger outrigger

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# A C compiler is needed for aws-lc; the slim image has one. The cache mounts make the second build a matter of seconds.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --release --locked --bin outrigger \
    && cp target/release/outrigger /usr/local/bin/outrigger

FROM debian:bookworm-slim
# The certificates are for https backends, webhooks and key sets.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin outrigger \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/outrigger
COPY --from=build /usr/local/bin/outrigger /usr/local/bin/outrigger
COPY LICENSE LICENSE-MIT LICENSE-APACHE /usr/share/doc/outrigger/
USER 10001:10001
# `data: /var/lib/outrigger` keeps history, positions and ids here: mount something that outlives the container.
VOLUME /var/lib/outrigger
# Public listeners; the internal API (8700) is not for the outside.
EXPOSE 8080 8443
# Asks the internal API, where it is unless `api.listen` says otherwise. Bash speaks TCP by itself, so the image needs no curl.
ENV OUTRIGGER_HEALTH_PORT=8700
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["bash", "-c", "exec 3<>\"/dev/tcp/127.0.0.1/$OUTRIGGER_HEALTH_PORT\" && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
# SIGTERM drains: give the container longer than `drain.deadline` (60s) to stop.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/outrigger"]
CMD ["run", "--config", "/etc/outrigger/outrigger.yaml"]
