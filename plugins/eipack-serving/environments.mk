# The environments of the serving frameworks, whose requirements contradict each other and eipack's own.
# Each holds its framework in build/serving/NAME (40 to 470 MB), found before .venv, which it takes
# torch and eipack from. FULL=1 installs everything there, 5 GB each, as a user does.
SERVING := plugins/eipack-serving
SERVING_NAMES := bentoml kserve litserve mlserver ray
SERVING_TESTS := $(addprefix test-serving-,$(SERVING_NAMES))
SERVING_REQUIREMENT_ray := ray[serve]
serving_requirement = $(or $(SERVING_REQUIREMENT_$(1)),$(1))
serving_packages = $$(echo build/serving/$(1)/lib/python3.*/site-packages)
FULL ?=
SERVING_STAMP := $(if $(FULL),.installed-full,.installed)

.PHONY: test-serving test-serving-triton serving-constraints $(SERVING_TESTS)

test-serving: $(SERVING_TESTS) test-serving-triton ## run the tests of every serving framework
test-serving-bentoml: ## run the tests in BentoML
test-serving-kserve: ## run the tests in KServe
test-serving-litserve: ## run the tests in LitServe
test-serving-mlserver: ## run the tests in MLServer
test-serving-ray: ## run the tests in Ray Serve

test-serving-triton: .venv/.installed build/rivals/.installed ## run the tests in Triton
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m 'long or not long' $(wildcard $(SERVING)/tests/test_triton*.py)

$(SERVING_TESTS): test-serving-%: build/serving/%/$(SERVING_STAMP)
	@OMP_NUM_THREADS=1 build/serving/$*/bin/python -m pytest \
		$(SERVING)/tests/test_$(patsubst ray,rayserve,$*).py

.SECONDARY: $(foreach name,$(SERVING_NAMES),build/serving/$(name)/$(SERVING_STAMP))

build/serving/%/.installed: $(SERVING)/constraints/%.txt | .venv/.installed
	@echo "installing into build/serving/$* (beside .venv, a minute the first time)"
	@$(call serving_venv,$*,--constraint $<)
	@touch $@

build/serving/%/.installed-full: $(SERVING)/constraints/%.txt | .venv/.installed
	@echo "installing into build/serving/$* (5 GB, some minutes)"
	@rm -rf build/serving/$*
	@$(BIN)/python -m venv build/serving/$*
	@echo 'torch===$(TORCH)' > build/serving/torch.txt
	@build/serving/$*/bin/pip install --quiet --constraint $< --constraint build/serving/torch.txt \
		'$(call serving_requirement,$*)' hatchling editables
	@build/serving/$*/bin/pip install --quiet --constraint $< --constraint build/serving/torch.txt \
		--no-build-isolation -e '.[test]' $(EDITABLE)
	@touch $@

serving-constraints: .venv/.installed ## renew the constraints of the serving frameworks
	@$(foreach name,$(SERVING_NAMES),$(call serving_venv,$(name),) && $(call serving_freeze,$(name)) && \
		touch build/serving/$(name)/.installed &&) true

# $(call serving_venv,name,options of pip): the .pth file is read last, so the framework's versions win.
define serving_venv
	rm -rf build/serving/$(1) && \
	$(BIN)/python -m venv --without-pip build/serving/$(1) && \
	$(BIN)/pip --python build/serving/$(1)/bin/python install --quiet $(2) \
		'$(call serving_requirement,$(1))' && \
	echo "import site; site.addsitedir('$$($(BIN)/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
		> $(call serving_packages,$(1))/zz_eipack.pth
endef

# $(call serving_freeze,name): what lies there as constraints.
define serving_freeze
	{ echo '# Written by `make serving-constraints`.'; \
	  $(BIN)/pip freeze --path $(call serving_packages,$(1)); } > $(SERVING)/constraints/$(1).txt
endef
