# Each target is one line of real work; CI runs the same ones.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup run test check bench
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt infra/setup.sh
	$(PYTHON) -m venv $(VENV)
	sh infra/setup.sh $(BIN)
	touch $@

run: setup
	$(BIN)/toolwright ask "In nautical miles, what is the distance between Dallas and Toronto?"

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup
	$(BIN)/toolwright eval run --set bundled-test --method DFS_woFilter_w2 --method CoT@1
