#!/usr/bin/env bash
# GPU tests and every measurement on a CUDA card: within 10 minutes, nothing downloaded. Leaves JSON and Markdown in FOLDER.
#   bash benchmarks/gpu.sh [FOLDER]          (default: runs/gpu); needs torch >= 2.11, torchvision, pytest; timm and monai where present
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:-runs/gpu}"
mkdir -p "$out"
python -c 'import torch; assert torch.cuda.is_available(), "torch finds no CUDA card"; print(torch.__version__, torch.cuda.get_device_name(0))' || exit 1

failed=0
timeout 150 python -m pytest -q -m gpu -p no:cacheprovider 2>&1 | tee "$out/tests.txt" | tail -n 5 || failed=1
for measure in layers:180:1.0 models:120:6 scaling:40:3 memory:40: pipeline:60:; do
  IFS=: read -r name seconds budget <<<"$measure"
  timeout "$seconds" python -m benchmarks "$name" --device cuda --json "$out/$name.json" ${budget:+--budget "$budget"} >"$out/$name.log" 2>&1
  code=$?
  if [ "$code" = 124 ]; then echo "$name: out of time, measured in part"; elif [ "$code" != 0 ]; then echo "$name ended with code $code"; tail -n 3 "$out/$name.log"; failed=1; fi
done
files=()
for file in "$out"/*.json; do [ -e "$file" ] && files+=("$file"); done
if [ "${#files[@]}" != 0 ]; then
  python -m benchmarks page "${files[@]}" --out "$out/performance.md" || failed=1
fi
exit "$failed"
