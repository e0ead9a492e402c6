# The sealwire signaling server as an image that holds one static file.
#   docker build -t sealwire-server . && docker run --read-only -p 127.0.0.1:8080:8080 sealwire-server

# Alpine's own target is musl, and its binaries are static.
FROM rust:1-alpine AS build
# The C compiler is for the cryptography of TLS.
# hadolint ignore=DL3018
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features --features server,nats --bin sealwire-server

# No shell, no libc, no files but the server.
FROM scratch
COPY --from=build /src/target/release/sealwire-server /sealwire-server
ENV SEALWIRE_LISTEN=0.0.0.0:8080
EXPOSE 8080
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/sealwire-server", "health"]
ENTRYPOINT ["/sealwire-server"]
