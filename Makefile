# `make lab` and `make test` are all that a reader needs; `python3 course.py lab` does the same without make.
# While writing, `make check` runs lint, types and the tests of what changed since the last commit.
PYTHON ?= python3
COURSE = @$(PYTHON) course.py

.PHONY: lab test test-real check doctor set-up set-up-dev site data models

lab:
	$(COURSE) lab $(if $(PORT),--port $(PORT))

test check doctor set-up:
	$(COURSE) $@

# All chapters on real models, which `course models pull` downloads first (over an hour on two cores).
test-real:
	$(COURSE) test --tier real

# The course as a folder of HTML pages: build/site/index.html.
site: set-up-dev
	@.venv/bin/python docs/site/build.py

set-up-dev:
	$(COURSE) set-up --dev

# Write Haneul Bank's files again; the same bytes come out.
data: set-up
	@PYTHONPATH=datasets .venv/bin/python -m bankworld

# Train the course's models again (hours on two cores; can be interrupted and goes on where it was).
models: set-up
	@PYTHONPATH=models:datasets .venv/bin/python -m pretraining
	@PYTHONPATH=models:datasets .venv/bin/python -m finetuning
	@PYTHONPATH=models:datasets .venv/bin/python -m picture_training.captioner --resume
	@PYTHONPATH=models:datasets .venv/bin/python -m picture_training.upscaler --resume
	@PYTHONPATH=models:datasets .venv/bin/python -m picture_training.judge --resume
	@PYTHONPATH=models:datasets .venv/bin/python -m picture_training.painter --resume
	@PYTHONPATH=models:datasets .venv/bin/python -m picture_training.faces --resume
