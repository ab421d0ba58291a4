# Two commands matter: `make lab` and `make test`. Both install first, where that is still to be done.
# While writing, `make check` runs lint, types and the tests of what changed since the last commit.
PYTHON ?= python3
COURSE = .venv/bin/python -m course_lib.cli

.PHONY: lab test check set-up set-up-dev data models

lab: set-up
	@$(COURSE) lab $(if $(PORT),--port $(PORT))

test: set-up-dev
	@$(COURSE) test

check: set-up-dev
	@$(COURSE) check

set-up:
	@$(PYTHON) course_lib/bootstrap.py

set-up-dev:
	@$(PYTHON) course_lib/bootstrap.py --dev

# Write Haneul Bank's files again; the same bytes come out.
data: set-up
	@PYTHONPATH=datasets .venv/bin/python -m bankworld

# Train the course's models again (hours on two cores; can be interrupted and goes on where it was).
models: set-up
	@PYTHONPATH=models:datasets .venv/bin/python -m pretraining
	@PYTHONPATH=models:datasets .venv/bin/python -m finetuning
