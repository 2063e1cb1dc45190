#!/usr/bin/env bash
# Tests and measurements on a CUDA card, most valuable first, in at most 9 minutes; nothing is downloaded. One archive comes out.
#
#   bash benchmarks/gpu.sh [OUT [PACK]]     OUT: folder (default runs/gpu), beside it OUT.tar.gz; PACK: by benchmarks.pack
#
# Needs torch, torchvision, pytest; monai, timm, lightning where present. Without PACK the last step (matched CelebA rows)
# is left out. Each step has its own time limit; one that fails or is stopped leaves what it has, and the next one starts.
# DEVICE=cpu tries everything with tiny sizes. STEPS="probe layers" runs these only.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:-runs/gpu}" pack="${2:-}" device="${DEVICE:-cuda}"
steps="${STEPS:-ceilings tests probe layers models lowrank memory pipeline celeba compiled}"
limit="${LIMIT:-500}" slower=1 started=$SECONDS
mkdir -p "$out" && out="$(cd "$out" && pwd)" || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" FUSIONCONV_TEST_DEVICE="$device"
if [ "$device" = cuda ]; then
  python -c 'import torch; assert torch.cuda.is_available(), "torch finds no CUDA card"; print(torch.__version__, torch.cuda.get_device_name(0))' || exit 1
  nvidia-smi >"$out/nvidia-smi.txt" 2>&1
  quick=() small=()
else
  quick=(--quick) slower=20 limit=$((limit * 20))
  small=(-k "(values_and_gradients and 2d-groups) or precision_and_layout and deep and bfloat16 and auto or linear")
fi

data="$out/data"
if [ -n "$pack" ]; then
  timeout 30 python -m benchmarks.pack open "$pack" --out "$data" || exit 1
  wheels=("$data"/wheels/*.whl)
  [ -e "${wheels[0]}" ] && timeout 30 python -m pip install -q --no-index --no-deps "${wheels[@]}" >"$out/wheels.log" 2>&1
fi

failed=0
# step NAME SECONDS COMMAND...: within its own time, and what is left of all
step() {
  local name="$1" seconds=$(($2 * slower)) left code begun=$SECONDS
  shift 2
  [[ " $steps " == *" $name "* ]] || return 0
  left=$((limit - (SECONDS - started)))
  [ "$left" -lt 5 ] && { echo "$name: no time left"; return 0; }
  [ "$seconds" -gt "$left" ] && seconds=$left
  timeout -k 5 "$seconds" "$@" >"$out/$name.log" 2>&1
  code=$?
  case "$code" in
    0) echo "$name: done, $((SECONDS - begun)) s" ;;
    124 | 137) echo "$name: stopped after $seconds s, measured in part" ;;
    *) echo "$name: ended with code $code"; tail -n 3 "$out/$name.log"; failed=1 ;;
  esac
}
measure() { step "$1" "$2" python -m benchmarks "$1" --device "$device" --json "$out/$1.json" "${quick[@]}" "${@:3}"; }

# the matched rows of the CelebA study: 3 seeds, 112 px, three parts at once on the one card
celeba() {
  local own=(--seeds 3 --image-size 112 --trainer.precision bf16-mixed) parts=3 part
  [ "$device" = cuda ] || own=(--seeds 1 --image-size 32 --classifier-width 16 --limit 40 --epochs 1) parts=1
  if [ -e "$data/vgg16.pt" ]; then own+=(--weights "$data/vgg16.pt"); else own+=(--weights none); fi
  for part in $(seq "$parts"); do
    python -m recipes.celeba reproduce --root "$data" --rows matched --modes corrected --part "$part/$parts" --keep none \
      --out "$out/celeba" "${own[@]}" >"$out/celeba-$part.log" 2>&1 &
  done
  local code=0 job
  for job in $(jobs -p); do wait "$job" || code=$?; done
  return "$code"
}
export -f celeba
export out data device

measure ceilings 15
step tests 50 python -m pytest -q --maxfail=20 -p no:cacheprovider -m gpu tests/gpu/test_networks_on_a_card.py \
  tests/gpu/test_strategies_on_a_card.py "${small[@]}"
measure probe 40
measure layers 90 --budget 0.4
measure models 45 --budget 1.5
measure lowrank 30 --budget 0.4
measure memory 20
measure pipeline 35 --budget 10
if [ -d "$data/celeba" ]; then step celeba 180 bash -c celeba; fi
step compiled 60 python -m pytest -q -p no:cacheprovider -m gpu tests/gpu/test_compiled_on_a_card.py

files=()
for file in "$out"/*.json; do [ -e "$file" ] && files+=("$file"); done
if [ "${#files[@]}" != 0 ]; then
  timeout 30 python -m benchmarks page "${files[@]}" --out "$out/performance.md" >"$out/page.log" 2>&1 || { cat "$out/page.log"; failed=1; }
fi
# no image: the engine draws training inputs, which here are faces
tar -czf "$out.tar.gz" --exclude=data --exclude='*.ckpt' --exclude='*.safetensors' --exclude=cache --exclude='*.png' -C "$(dirname "$out")" "$(basename "$out")" &&
  echo "results: $out.tar.gz ($((SECONDS - started)) s)"
exit "$failed"
