# `make demo` and `make test` set up all they need: Python 3.11 or newer with venv is enough.
PYTHON ?= python3
VENV ?= .venv
EXTRA ?=
# Versions known to work. CONSTRAINTS= takes the newest that setup.cfg allows.
CONSTRAINTS ?= constraints.txt
# WORKDIR is for `make demo`.
WORKDIR ?= demo
# Processes that run tests. One more than there are cores is faster, and may delay tests of signals.
WORKERS ?= 2

extras = test$(if $(EXTRA),$(comma)$(EXTRA))
comma := ,
python = $(VENV)/bin/python
constrained = $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
installed = $(VENV)/.installed-$(extras)

PEER ?= torch,onnxruntime,openvino

.PHONY: demo test test-docs test-slow test-newest lint format docs docs-serve site serve peers bench bench-quick compile-for compiled accelerator clean

demo: $(installed)
	$(python) -m tools.demo --workdir=$(WORKDIR)

# Files of tests run in the order of their names. The last ones are short, so that all workers end at
# about the same time.
test: $(installed)
	$(python) -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder -m 'not slow'

test-slow: $(installed)
	$(python) -m pytest -n $(WORKERS) --dist=worksteal -m slow

# The commands of README and docs, on small inputs.
test-docs: $(installed)
	$(python) -m pytest tests/test_docs_run.py

# Tests of what newer libraries break first: videos, training, Orbax, Grain. Those in OURS are left
# out: they stop, start and watch runs in further ways, and that code does not depend on the version
# of the libraries.
NEWEST = loop video compilation pipeline sources run_checkpoints checkpoint train_state
OURS = killed_run or two_signals or that_a_signal or between_the_stages or recovers or not_finite \
	or changed_settings or wrong_settings or given_discriminator or averaged \
	or waits_for_data or in_a_thread or flipped

# The files run in the order of NEWEST: the longest first, so that no worker is left alone with it.
test-newest: $(installed)
	$(python) -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder -m 'not slow' -k 'not ($(OURS))' \
		$(foreach name,$(NEWEST),$(sort $(wildcard tests/test_$(name)*.py)))

lint: $(installed)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: $(installed)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The site of docs/, in build/site; docs-serve shows it on 127.0.0.1:8000 while you write.
# In an environment of its own, which the tests do not need.
docs:
	$(MAKE) site VENV=$(VENV)-docs extras=docs

docs-serve:
	$(MAKE) serve VENV=$(VENV)-docs extras=docs

mkdocs = NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs

site: $(installed)
	$(mkdocs) build --quiet --strict
	@# Pages must not load anything from other hosts.
	! grep -rnoE '<(link|script|img|iframe)[^>]*(href|src)="(https?:)?//[^"]*|(@import|url\()[^;)]*//[^;)]*' \
		build/site --include=*.html --include=*.css

serve: $(installed)
	$(mkdocs) serve

$(installed): setup.cfg pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'esrgan_jax needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11'; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(python) -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(python) $(constrained) --editable '.[$(extras)]'
	@touch $@

# What tests and benchmarks compare with where it is installed; nobody else needs it.
peers: $(installed)
	$(python) -m pip install --quiet --no-compile torch==2.13.0 einops typing_extensions onnx onnxruntime
	$(python) -m pip install --quiet --no-deps spandrel==0.4.2 openvino

# Speed beside PyTorch and, on a CPU, ONNX Runtime and OpenVINO: an hour. On a GPU: EXTRA=cuda
# PEER=torch.
bench: peers
	@mkdir -p build/bench
	$(python) -m benchmarks.upscale --peer=$(PEER) > build/bench/upscale.jsonl
	$(python) -m benchmarks.train_step > build/bench/train_step.jsonl
	$(python) -m benchmarks.table build/bench/upscale.jsonl build/bench/train_step.jsonl

# Upscaling beside the two that are fastest on a CPU: ten minutes.
bench-quick: peers
	@mkdir -p build/bench
	$(python) -m benchmarks.upscale --peer=onnxruntime,openvino --repeats=3 > build/bench/quick.jsonl
	$(python) -m benchmarks.table build/bench/quick.jsonl

# Compiles small programs for a TPU and an H100 that are not there: minutes. The compilers take 1 GB
# and are in an environment of their own, because JAX looks for the devices of those it has.
compile-for:
	$(MAKE) compiled VENV=$(VENV)-compile

compiled: $(installed)
	jax=$$($(python) -c 'import jax; print(jax.__version__)') && \
	$(python) -m pip install --quiet "jax[tpu]==$$jax" && \
	$(python) -m pip install --quiet --no-deps "jax-cuda12-plugin==$$jax" "jax-cuda12-pjrt==$$jax"
	$(python) -m pytest -m slow tests/test_compile_for.py

# On a machine with a GPU, JAX for it, and PyTorch to compare with: nine minutes. Without internet,
# what is missing is installed from WHEELS, see tools/collect_wheels.py. FLAGS=--cases=check,psnr does
# only these.
WHEELS ?= build/wheels
FLAGS ?=
accelerator_python = build/accelerator-venv/bin/python

accelerator:
	$(PYTHON) -m venv --without-pip --clear build/accelerator-venv
	@# Unlike --system-site-packages, this has PYTHON's packages if PYTHON is of a virtual environment.
	$(PYTHON) -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' \
		> $$(echo build/accelerator-venv/lib/python3*/site-packages)/machine.pth
	-$(if $(wildcard $(WHEELS)),$(PYTHON) -m pip --python $(accelerator_python) install --quiet --no-index \
		--find-links $(WHEELS) --requirement $(WHEELS)/requirements.txt)
	$(accelerator_python) -m benchmarks.accelerator $(FLAGS)

clean:
	rm -rf $(VENV) $(VENV)-compile $(VENV)-docs build demo
