# One image for web and worker; the command line chooses.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG EVENTS_SOURCE=""
ARG EVENTS_COMMIT=""
ARG EVENTS_BUILD=""
RUN cargo build --release --locked --bin events

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates mercurial openssh-client \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /app app \
 && install -d -o app /app/clones
COPY --from=build /src/target/release/events /usr/local/bin/events
USER app
WORKDIR /app
ENTRYPOINT ["events"]
CMD ["run"]
