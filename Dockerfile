# syntax=docker/dockerfile:1
# The images that a cluster runs: `docker buildx build --target gateway .`, and `--target operator`; for two
# architectures with --platform linux/amd64,linux/arm64. Nothing is emulated: the other architecture is cross-compiled.
# hack/image/build makes the same without Docker.

FROM --platform=$BUILDPLATFORM rust:1.89-bookworm AS build
ARG TARGETARCH
WORKDIR /src
RUN <<EOF
set -eu
case $TARGETARCH in
  amd64) triple=x86_64 ;;
  arm64) triple=aarch64 ;;
  *) echo "no target for $TARGETARCH" >&2; exit 1 ;;
esac
rustup target add $triple-unknown-linux-gnu
apt-get update
packages="binutils ca-certificates python3"
[ $triple = $(uname -m) ] || packages="$packages gcc-$(echo $triple | tr _ -)-linux-gnu"
apt-get install -y --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*
echo $triple >/triple
EOF
COPY . .
# Dependencies stay in the two caches, so that a change here compiles these crates alone.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=wsgateway-target-$TARGETARCH,target=/src/target <<EOF
set -eu
triple=$(cat /triple)
variable=CARGO_TARGET_$(echo $triple | tr a-z A-Z)_UNKNOWN_LINUX_GNU_LINKER
export $variable=$triple-linux-gnu-gcc
cargo build --release --locked --target $triple-unknown-linux-gnu --bin wsgateway --bin wsgateway-operator
mkdir /stripped
for program in wsgateway wsgateway-operator; do
  $triple-linux-gnu-objcopy --strip-debug target/$triple-unknown-linux-gnu/release/$program /stripped/$program
done
EOF
RUN --mount=type=cache,target=/usr/local/cargo/registry <<EOF
set -eu
triple=$(cat /triple)
libraries="/usr/lib/$triple-linux-gnu /usr/$triple-linux-gnu/lib"
hack/image/root /images/gateway /stripped/wsgateway wsgateway-gateway $triple-unknown-linux-gnu $libraries
hack/image/root /images/operator /stripped/wsgateway-operator wsgateway-operator $triple-unknown-linux-gnu $libraries
EOF

FROM scratch AS operator
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Operator of WebSocket gateways" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.source=https://github.com/wsgateway/wsgateway
COPY --from=build /images/operator/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/wsgateway-operator"]

FROM scratch AS gateway
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="WebSocket gateway in front of NATS" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.source=https://github.com/wsgateway/wsgateway
COPY --from=build /images/gateway/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/wsgateway"]
