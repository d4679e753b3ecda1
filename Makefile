# make demo: provision and verify one disposable node. make test: everything. make check: the inner loop.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

ROOT := $(realpath .)
WORK := $(ROOT)/.work
COLLECTION := ansible_collections/slipway/node
INSTALLED := $(WORK)/collections/$(COLLECTION)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -n)
NODES := tests/nodes/inventory
SHIPPED := $(shell find galaxy.yml *.md LICENSE LICENSES REUSE.toml changelogs/changelog.yaml docs meta playbooks plugins roles \
  -not -name '*.pyc' -not -name __pycache__ 2>/dev/null)

export PATH := $(ROOT)/.venv/bin:$(WORK)/tools/usr/bin:$(PATH)
export ANSIBLE_CONFIG := $(ROOT)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(WORK)/collections
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup build demo check test style types unit page lint docs-setup docs-lint docsite sanity importer molecule integration smoke crash \
  test-vm test-vm-upgrade test-k8s test-upgrade bench changelog clean distclean

help:
	@cat <<'TEXT'
	make demo         provision and verify one disposable node, and print how to log in
	make test         everything: the steps style types lint unit page docs-lint docsite sanity importer molecule integration crash
	make test-vm      the snapshotter devmapper, in a virtual machine; half an hour
	make test-vm-upgrade  power cuts of virtual machines during upgrades; an hour and a half
	make test-k8s     upgrades of a node of Kubernetes; ten minutes, and as long to build the kubelet the first time
	make test-upgrade upgrades of nodes in use from 1.6 to 2.4, one version after another; a quarter of an hour
	make check        the inner loop: style types unit; a minute
	make smoke        one successful and one refused or rolled back run per module, on trixie; five minutes
	make bench        the measurements
	make docsite      the site of the documentation, in .work/docsite/html
	make build        the artefact that Galaxy gets, in .work/artefact
	make changelog    CHANGELOG.md and changelogs/changelog.yaml from changelogs/fragments
	make clean        remove the nodes and what was generated, but neither .venv nor the node images
	make distclean    remove these too
	TEXT

setup:
	@tests/setup

build: setup $(INSTALLED)/MANIFEST.json

# Installed from the artefact, so that what is tested is what users get.
$(INSTALLED)/MANIFEST.json: $(SHIPPED)
	@rm -rf $(WORK)/artefact $(INSTALLED)
	ansible-galaxy collection build --force --output-path $(WORK)/artefact . >/dev/null
	ansible-galaxy collection install --no-deps --offline --force -p $(WORK)/collections $(WORK)/artefact/*.tar.gz >/dev/null

demo: build
	@ansible-playbook -i $(NODES)/demo.yml tests/nodes/create.yml
	ansible-playbook -i $(NODES)/demo.yml slipway.node.provision
	ansible-playbook -i $(NODES)/demo.yml slipway.node.verify --extra-vars '{"verify_print_statuses": ["fail", "unknown", "warn", "ok"]}'
	printf "\nLog in:     %s\nRemove it:  make clean\n" "ssh -F .work/nodes/demo-trixie/ssh_config demo-trixie"

check: style types unit

style: setup
	@ruff check .
	ruff format --check .
	yamllint --strict .
	shellcheck tests/setup tests/run_sanity tests/nodes/{image,image-build,init,network} tests/vm/{image,image-build,machine} tests/docsite/setup \
	  .ci/run

types: setup
	@(cd $(WORK)/src && mypy --config-file $(ROOT)/pyproject.toml --cache-dir $(WORK)/mypy -p ansible_collections.slipway.node.plugins) &
	plugins=$$!
	mypy --cache-dir $(WORK)/mypy-tests tests
	wait $$plugins

unit: setup
	@pytest --numprocesses 2 tests/unit

page: setup
	@tests/setup chromium
	pytest --numprocesses 2 tests/page

lint: build
	@ansible-lint

docs-setup: setup
	@tests/docsite/setup $(WORK)/docs-venv

docs-lint: build docs-setup
	@antsibull-docs lint-collection-docs --plugin-docs $(INSTALLED)
	antsibull-changelog lint
	$(WORK)/docs-venv/bin/reuse lint --lines

docsite: build docs-setup
	@$(WORK)/docs-venv/bin/python tests/docsite/build $(INSTALLED) $(WORK)/docsite

sanity: build
	@tests/run_sanity $(INSTALLED) $(WORK)

importer: build
	@cd $(WORK)/artefact
	python -m galaxy_importer.main slipway-node-*.tar.gz | tee importer.log
	if grep -E '^(WARNING|ERROR)' importer.log >/dev/null; then echo "galaxy-importer has warnings" >&2; exit 1; fi

molecule: build
	@molecule test

integration: build
	@pytest --numprocesses 3 tests/integration

smoke: build
	@pytest --numprocesses 3 -m smoke --suite trixie tests/integration

crash: build
	@pytest --numprocesses 3 tests/crash

test-vm: build
	@tests/setup qemu-system-x86 qemu-utils
	molecule test --scenario-name devmapper

test-vm-upgrade: build
	@tests/setup qemu-system-x86 qemu-utils
	pytest tests/vm

# The client of kubernetes.core is apart from .venv: the collection does without it.
test-k8s: build
	@cmp -s tests/k8s/requirements.txt $(WORK)/kubernetes-client/requirements.txt || {
	  rm -rf $(WORK)/kubernetes-client
	  pip install --quiet --disable-pip-version-check --no-warn-conflicts --target $(WORK)/kubernetes-client --requirement tests/k8s/requirements.txt
	  cp tests/k8s/requirements.txt $(WORK)/kubernetes-client
	}
	pytest tests/k8s

test-upgrade: build
	@pytest --verbose tests/upgrade

bench: build
	@for program in bench/*; do [ ! -x $$program ] || $$program; done

test: build
	@tests/steps style types lint unit page docs-lint docsite sanity importer molecule integration crash

changelog: setup
	@antsibull-changelog release --update-existing --refresh --reload-plugins

clean:
	@if command -v podman >/dev/null; then
	  $(SUDO) podman ps --all --quiet --filter label=slipway_checkout=$(ROOT) | xargs --no-run-if-empty $(SUDO) podman rm --force --volumes
	  $(SUDO) tests/nodes/network $(ROOT) --release
	fi
	for pid in $(WORK)/nodes/*/pid; do [ ! -e "$$pid" ] || $(SUDO) tests/vm/machine kill "$$(dirname "$$pid")"; done
	[ ! -e $(WORK)/vm/registry.pid ] || tests/vm/registry stop $(WORK)/vm
	$(SUDO) rm -rf $(WORK) .hypothesis .pytest_cache .mypy_cache .ruff_cache .ansible

distclean: clean
	@rm -rf .venv
	if command -v podman >/dev/null; then
	  $(SUDO) rm -rf /var/tmp/slipway-vm-*
	  $(SUDO) podman images --format '{{.Repository}}:{{.Tag}}' --filter reference='localhost/slipway-node-*' |
	    xargs --no-run-if-empty $(SUDO) podman rmi
	fi
