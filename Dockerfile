# Four images; those of the first two are from one build:
#   docker build -t keda-kinesis-scaler .
#   docker build -t kinesis-to-dynamodb --target kinesis-to-dynamodb .
#   docker build -t kcl-multilang --target kcl-multilang .
#   docker build -t embedded-aws --target embedded-aws .      Kinesis and DynamoDB, for trials

FROM rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist -p keda-kinesis-scaler -p kinesis-to-dynamodb \
    && cp target/dist/keda-kinesis-scaler target/dist/kinesis-to-dynamodb /usr/local/bin/

FROM rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS static
# Of the base image's own release, as its other packages are.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --target "$(uname -m)-unknown-linux-musl" -p kcl-multilang \
    && cp "target/$(uname -m)-unknown-linux-musl/dist/kcl-multilang" /usr/local/bin/

# For copying the binary out of, into an image of any kind: `kcl-multilang install FOLDER`.
FROM scratch AS kcl-multilang
LABEL org.opencontainers.image.title="kcl-multilang" \
    org.opencontainers.image.description="A drop-in for KCL's MultiLangDaemon without a JVM" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=static /usr/local/bin/kcl-multilang /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/kcl-multilang"]

FROM rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS emulators
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p embedded-aws \
    && cp target/release/embedded-aws /usr/local/bin/

# The base image has glibc, CA certificates and a user that is not root; it has no shell.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS embedded-aws
LABEL org.opencontainers.image.title="embedded-aws" \
    org.opencontainers.image.description="Kinesis, DynamoDB and STS in memory, for trials and tests" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=emulators /usr/local/bin/embedded-aws /usr/local/bin/
EXPOSE 4566
ENTRYPOINT ["/usr/local/bin/embedded-aws"]
CMD ["--listen=[::]:4566"]

FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS kinesis-to-dynamodb
LABEL org.opencontainers.image.title="kinesis-to-dynamodb" \
    org.opencontainers.image.description="Every record of an AWS Kinesis stream becomes an item of a DynamoDB table" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /usr/local/bin/kinesis-to-dynamodb /usr/local/bin/
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/kinesis-to-dynamodb"]

FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS keda-kinesis-scaler
LABEL org.opencontainers.image.title="keda-kinesis-scaler" \
    org.opencontainers.image.description="KEDA external scaler for AWS Kinesis" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /usr/local/bin/keda-kinesis-scaler /usr/local/bin/
EXPOSE 6000 9090
ENTRYPOINT ["/usr/local/bin/keda-kinesis-scaler"]
CMD ["serve"]
