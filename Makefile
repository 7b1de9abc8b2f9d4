# Each target does all its own set-up: it needs Python >= 3.10 and nothing else.
#   make quickstart     trains Mask R-CNN with pixel weights on synthetic scenes and BPR on what it predicts, and shows
#                       the masks before and after in a table, a picture and a page of their errors
#   make test           linters and tests
#   make venv           the environment alone; VENV=path puts or finds it elsewhere
#   make test-detectron2 DETECTRON2=clone   the tests on real Detectron2, and both engines against each other
#   make benchmarks     measures the ratios of benchmarks/README.md on this machine, into output/benchmarks (an hour).
#                       DETECTRON2=clone, REAL_DATA=folder (predictions/coco_val2014_100, cityscapes/gtFine): more of them

PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
DATA = $${DETECTRON2_DATASETS:-datasets}/shapes
MODEL = configs/quickstart/mask_rcnn_R_18_FPN_PNM.yaml
REFINER = configs/quickstart/bpr_universal.yaml
COARSE = output/quickstart/mask_rcnn_pnm/inference/shapes_val
REFINED = output/quickstart/bpr_universal/inference/shapes_val

.PHONY: quickstart test lint venv shapes test-detectron2 benchmarks clean

venv: $(VENV)/.made

$(VENV)/.made: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --progress-bar on -r requirements.txt -r requirements-dev.txt
	$(PY) -m pip install --quiet --no-deps "panopticapi-lite>=0.2"  # a peer of the tests; it asks for an old NumPy in vain
	touch $@

shapes: venv
	$(PY) datasets/make_shapes.py

quickstart: venv shapes
	rm -rf output/quickstart/mask_rcnn_pnm output/quickstart/bpr_universal
	$(PY) train_net.py --config-file $(MODEL) DATASETS.TEST '("shapes_train","shapes_val")'
	$(PY) train_net.py --config-file $(REFINER)
	$(PY) tools/visualize.py --config-file $(MODEL) --dataset shapes_val --refined $(REFINED) --pixel-weights \
		--num 4 --min-score 0.7 --output output/quickstart/refined.png
	$(PY) tools/evaluate.py instance --gt $(DATA)/annotations/instances_val.json \
		--pred $(COARSE)/coco_instances_results.json --compare $(REFINED)/coco_instances_results.json \
		--show AP AP90 Boundary-AP AF --output output/quickstart/refined.json
	$(PY) tools/report.py --gt $(DATA)/annotations/instances_val.json --images $(DATA)/images/val \
		--pred $(COARSE)/coco_instances_results.json --compare $(REFINED)/coco_instances_results.json \
		--output output/quickstart/report.html

lint: venv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: lint
	$(PY) -m pytest tests -n 2 --dist loadfile

test-detectron2: venv
	@test -f "$(DETECTRON2)/detectron2/__init__.py" || { echo "error: DETECTRON2 must be a clone of Detectron2"; exit 2; }
	$(PY) -m pip install --quiet hydra-core omegaconf cloudpickle "setuptools<81"
	PYTHONPATH="$(DETECTRON2)" $(PY) -m pytest tests
	PNM_DETECTRON2="$(DETECTRON2)" $(PY) -m pytest tests/parity

benchmarks: SHELL := bash
benchmarks: .SHELLFLAGS := -o pipefail -c
benchmarks: venv shapes
	mkdir -p output/benchmarks
	$(PY) benchmarks/null_model.py | tee output/benchmarks/null_model.txt
	$(PY) benchmarks/bpr.py --networks patch_unet | tee output/benchmarks/bpr.txt
	$(PY) benchmarks/segfix.py | tee output/benchmarks/segfix.txt
	$(PY) benchmarks/prn.py --only grouping merging encoding | tee output/benchmarks/prn.txt
	$(PY) benchmarks/evaluation.py | tee output/benchmarks/evaluation.txt
	$(PY) benchmarks/refine_cpu.py | tee output/benchmarks/refine_cpu.txt
	$(PY) benchmarks/training_step.py | tee output/benchmarks/training_step.txt
ifdef REAL_DATA
	$(PY) benchmarks/evaluation_scale.py --instances $(REAL_DATA)/predictions/coco_val2014_100 \
		--maps $(REAL_DATA)/cityscapes/gtFine | tee output/benchmarks/evaluation_scale.txt
	$(PY) benchmarks/universal.py --data $(REAL_DATA) | tee output/benchmarks/universal.txt
endif
ifdef DETECTRON2
	$(PY) -m pip install --quiet hydra-core omegaconf cloudpickle "setuptools<81"
	$(PY) benchmarks/panoptic_fusion.py --detectron2 $(DETECTRON2) | tee output/benchmarks/panoptic_fusion.txt
	$(PY) benchmarks/engine.py --detectron2 $(DETECTRON2) | tee output/benchmarks/engine.txt
endif

clean:
	rm -rf output
