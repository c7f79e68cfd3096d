# What a person runs. The programs that it needs are obtained by hack/obtain, into the user's cache folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build run run-keycloak test check fmt lint unit manifests bench million scale images deny sbom
.PHONY: scripts cluster-up cluster-down kind-up kind-down clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
FILE ?= manifests/samples/notifications.yaml

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the three programs, into target/release
	cargo build --release --bin wsgateway --bin wsgateway-operator --bin wsgw
	@ln -sf wsgw $(TARGET)/release/kubectl-wsgw

run: build ## a WsGateway on this machine, with a real nginx, NATS and TLS (FILE=… for another one)
	@programs=$$(hack/obtain --env nats-server nginx wscat websocat) && eval "$$programs" && \
	  exec $(TARGET)/release/wsgw local -f $(FILE)

run-keycloak: build ## the same, with a Keycloak that says who may connect
	@programs=$$(hack/obtain --env nats-server nginx wscat websocat) && eval "$$programs" && \
	  exec hack/keycloak/run $(TARGET)/release/wsgw local -f manifests/samples/keycloak-local.yaml

test: build ## everything: units, goldens, and the tests with real programs
	@hack/test

check: lint unit ## the quick loop: format, lints, units, generated files

fmt: ## format the source
	cargo fmt --all

lint: ## format and clippy, changing nothing
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

scripts: ## shell scripts, kind-config.yaml and the values of others' charts
	@hack/lint

unit: ## units and goldens, without the tests that start programs
	cargo test --workspace --exclude wsgateway-e2e

manifests: ## make the generated files anew: CRD, roles, install.yaml
	@hack/manifests

bench: build ## measure beside the floor and the peers, into bench/results
	bench/run

million: ## hold a million WebSockets here, then a message to all: some six minutes, 12 GB
	bench/million

scale: ## the operator with 1,000 WsGateways, into bench/results
	bench/scale

images: build ## the two images, without Docker, into target/images
	@hack/image/build

deny: ## licences, sources and advisories of all dependencies (cargo-deny)
	@hack/deny

sbom: ## what is in each program, as CycloneDX, into target/sbom (the images carry theirs)
	@mkdir -p $(TARGET)/sbom
	@for package in gateway operator cli; do \
	  hack/image/sbom "wsgateway-$$package" "$$(uname -m)-unknown-linux-gnu" >"$(TARGET)/sbom/$$package.cdx.json"; \
	  echo "$(TARGET)/sbom/$$package.cdx.json"; \
	done

cluster-up: ## a real cluster on this machine, without Docker, as root (NODES=2, CLUSTER=name for another one)
	@hack/cluster/up check
	@$(MAKE) --no-print-directory build
	@hack/cluster/up

cluster-down: ## end it, and leave nothing behind
	@hack/cluster/down

kind-up: ## a cluster in Docker (INGRESS=community, f5 or gateway-api; CERT_MANAGER=1)
	@hack/kind/up

kind-down: ## end it
	@hack/kind/down

clean: ## remove what was built here (the cached programs stay)
	cargo clean
