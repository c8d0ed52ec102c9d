# One image for all roles; the command line chooses.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG EVENTS_SOURCE=""
ARG EVENTS_COMMIT=""
ARG EVENTS_BUILD=""
# Of this package alone: others have features for tests.
RUN cargo build --release --locked --package events --bin events

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git mercurial openssh-client \
 && rm -rf /var/lib/apt/lists/*
# Nothing below / is written but /app/clones, by a worker: run it with a read-only root and without capabilities.
RUN groupadd --system --gid 10001 app \
 && useradd --system --uid 10001 --gid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin app \
 && install -d /app \
 && install -d -m 0700 -o app -g app /app/clones
COPY --from=build /src/target/release/events /usr/local/bin/events
USER 10001:10001
WORKDIR /app
ENTRYPOINT ["events"]
CMD ["run"]
