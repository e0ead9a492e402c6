# The sealwire signaling server. It speaks plain HTTP on port 8080: put a TLS proxy before it.
#   docker build -t sealwire-server . && docker run -p 127.0.0.1:8080:8080 sealwire-server

FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features --features server --bin sealwire-server

# No shell, no package manager; libc and libgcc are all that the server needs.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/sealwire-server /usr/local/bin/sealwire-server
ENV SEALWIRE_LISTEN=0.0.0.0:8080
EXPOSE 8080
USER nonroot
ENTRYPOINT ["/usr/local/bin/sealwire-server"]
