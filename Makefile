# Everything goes through tools/dev.py, which finds or makes the interpreter and the environment first.
DEV = python3 tools/dev.py

.PHONY: run test format bench

run:  ## Serve the example application on 127.0.0.1:8000
	$(DEV) pounce examples.hello:app

test:  ## Lint, types, and the test suite
	$(DEV) ruff check --quiet .
	$(DEV) ruff format --check --quiet .
	$(DEV) mypy
	$(DEV) pytest -q -rs

format:
	$(DEV) ruff check --fix .
	$(DEV) ruff format .

bench:  ## What a request costs, beside the peers from PyPI; for example: make bench BENCH='--workloads hello --goals'
	@failed=0; $(DEV) python -m stress bench $(BENCH) || failed=1; \
	  other=../shared/bin/debian-python314; if test -x $$other; then python=$$($$other) && \
	  POUNCE_PYTHON=$$python $(DEV) python -m stress bench $(BENCH) || failed=1; fi; exit $$failed
