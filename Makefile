# Everything goes through tools/dev.py, which finds or makes the interpreter and the environment first.
DEV = python3 tools/dev.py

.PHONY: run test test-fast format bench chart

run:  ## Serve the example application on 127.0.0.1:8000
	$(DEV) pounce examples.hello:app

test:  ## Lint, types, and the test suite
	$(DEV) ruff check --quiet .
	$(DEV) ruff format --check --quiet .
	$(DEV) mypy
	$(DEV) pytest -q -rs

test-fast:  ## The tests that start no server, need no outside tool and wait for nothing: less than half a minute
	$(DEV) pytest -q -m 'not processes and not tools and not waits' $(TESTS)

format:
	$(DEV) ruff check --fix .
	$(DEV) ruff format .

bench:  ## What a request costs, beside other servers from PyPI; for example: make bench BENCH='--workloads hello --goals'
	$(DEV) python -m stress bench --json '.venv/bench-{tag}.json' $(BENCH)

chart:  ## Draw docs/bench.svg from the figures of `make bench`, of each interpreter it was run on
	python3 tools/bench_chart.py .venv/bench-*.json
