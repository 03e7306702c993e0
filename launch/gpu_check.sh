#!/usr/bin/env bash
# Check this project on one GPU within minutes: correctness, speed, learning.
#
#     launch/gpu_check.sh OUT [PART...]
#
# Writes into the folder OUT the output of every part, results.txt with all of it in order, and
# the trained run, packed. A part that fails or takes too long does not stop the next one.
# Parts, in this order, all of them if none is named:
#
#     tests       geometry, losses, layers, network and one step, on the device
#     throughput  whole steps: 64³ and 128³, float32, TF32 and bfloat16, batch 1, 4, 16
#     parts       the parts of a step, their share and their limit
#     forms       each operation of the network in each of its forms
#     memory      NTG, NCC and warps beside the time that their memory takes
#     torch       the authors' form of C2FViT in PyTorch, if that is installed
#     train       training with CONFIG; OUT gets the run
#
# Environment variables (defaults in brackets):
#
#     PYTHON   [python3], with jax for the device and the packages of requirements.txt
#     WHEELS   folder of wheels that are installed first, for this script alone []
#     LIMIT    seconds for all parts together [480]
#     QUICK    1: fewer sizes, so that all parts but the last take some three minutes [0]
#     CONFIG, OPTIONS, TRAIN_SECONDS   of the training [configs/adni.py, none, 300]
#     SIZES, BATCHES, SIZE, BATCH, TESTS, TEST_PROCESSES   for a trial run without a GPU,
#              such as 32, 1, 32, 2, affine and 0; SLOWER multiplies the shares of time [1]
#     PIECE, MOST   MB of a piece of the packed run, and of all pieces [15, 60]; of a larger
#              run OUT gets the best parameters only, which eval.py reads

set -uo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
shift
all_parts=(tests throughput parts forms memory torch train)
[ $# -ge 1 ] && chosen=("$@") || chosen=("${all_parts[@]}")
python=${PYTHON:-python3} limit=${LIMIT:-480} quick=${QUICK:-0}
size=${SIZE:-128}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$work/compiled}"

if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
        --target "$work/site" "$WHEELS"/*.whl || exit 2
    export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
fi

# Run a command for at most so many seconds, of those that are left, into a file.
run() { # NAME SECONDS SIGNAL COMMAND...
    local name=$1 seconds=$(($2 * ${SLOWER:-1})) signal=$3 left=$((limit - SECONDS)) started=$SECONDS
    shift 3
    [ "$seconds" -gt "$left" ] && seconds=$left
    if [ "$seconds" -lt 5 ]; then
        echo "$name: no time left" | tee -a "$work/table"
        return
    fi
    echo "== $name: $*"
    timeout --signal="$signal" --kill-after=60 "$seconds" "$@" >>"$out/$name.txt" 2>&1
    local code=$?
    tail -n 40 "$out/$name.txt"
    case $code in
    0) echo "$name: done in $((SECONDS - started)) s" ;;
    124 | 137) echo "$name: stopped after $((SECONDS - started)) s" ;;
    *) echo "$name: exit code $code after $((SECONDS - started)) s" ;;
    esac | tee -a "$work/table"
}

bench() { # NAME SECONDS MODULE ARGUMENTS...
    run "$1" "$2" TERM "$python" -m "benchmarks.$3" "${@:4}"
}

check_tests() {
    local files=(${TESTS:-affine grid pyramid warp ntg ncc objective layers mdvit step})
    [ "$quick" = 1 ] && files=(${TESTS:-affine warp ntg layers step})
    files=("${files[@]/#/tests/test_}")
    files=("${files[@]/%/.py}")
    # Accelerators round the factors of products by default; geometry and losses ask for full
    # precision themselves, the network does not.
    JAX_DEFAULT_MATMUL_PRECISION=float32 run tests "${TESTS_SECONDS:-$((quick ? 50 : 100))}" \
        INT "$python" -m pytest -q -n "${TEST_PROCESSES:-8}" --maxprocesses 16 --durations=5 \
        -p no:cacheprovider -k "not blocks" "${files[@]}"
}

check_forms() {
    local options=(--size "$size" --repeats 5)
    bench forms $((quick ? 30 : 45)) forms "${options[@]}" --output "$work/forms.json"
    [ "$quick" = 1 ] || bench forms 30 forms "${options[@]}" --dtype float32 --only \
        attention same --output "$work/forms32.json"
}

check_memory() {
    local options=(--size "$size" --repeats 5 --output "$work/memory.json")
    # One pair is what a step has; several do not fit into the cache.
    bench memory 30 losses "${options[@]}" --batch 1
    bench memory 25 warp "${options[@]}" --batch "${BATCH:-8}"
    [ "$quick" = 1 ] || bench memory 30 losses "${options[@]}" --batch "${BATCH:-8}"
}

check_parts() {
    bench parts $((quick ? 35 : 50)) parts --size "$size" --dtype bfloat16
    [ "$quick" = 1 ] || bench parts 50 parts --size "$size" --dtype float32
}

throughput_options() {
    if [ "$quick" = 1 ]; then
        echo --beside 4 --sizes "$size" --batches ${BATCHES:-1 4} --dtypes bfloat16 tf32
    else
        echo --beside 9 --sizes ${SIZES:-64 128} --batches ${BATCHES:-1 4 16} \
            --dtypes float32 tf32 bfloat16
    fi
}

# What throughput times is compiled while the tests run, and lies in the cache then.
compile_ahead() {
    timeout $((150 * ${SLOWER:-1})) "$python" -m benchmarks.throughput --compile-only --networks MDViT \
        --losses NTG $(throughput_options) >"$work/ahead" 2>&1 &
    ahead=$!
}

check_throughput() {
    [ -z "${ahead:-}" ] || wait "$ahead" || cat "$work/ahead"
    bench throughput $((quick ? 60 : 150)) throughput --networks MDViT --losses NTG \
        $(throughput_options)
    [ "$quick" = 1 ] || bench throughput 60 throughput --networks C2FViT --losses NTG \
        --beside 2 --sizes "$size" --batches 1 --dtypes tf32 bfloat16
}

check_torch() {
    if ! "$python" -c 'import torch' 2>/dev/null; then
        echo "torch: PyTorch is not installed" | tee -a "$work/table"
        return
    fi
    local batches=${BATCHES:-1 4}
    [ "$quick" = 1 ] && batches=1
    bench torch $((quick ? 20 : 45)) torch_c2fvit --sizes $size --batches $batches \
        --dtypes tf32 bfloat16
}

check_train() {
    local folder=$work/run config=${CONFIG:-configs/adni.py}
    # SIGTERM, so that the run saves.
    run train "${TRAIN_SECONDS:-300}" TERM "$python" train.py --config "$config" \
        --config.workdir="$folder" ${OPTIONS:-}
    [ -d "$folder" ] || return
    local most=$((1000000 * ${MOST:-60})) what=run
    tar -C "$work" -czf "$work/run.tgz" run
    if [ "$(stat -c %s "$work/run.tgz")" -gt $most ]; then
        what="its best parameters"
        "$python" - "$folder" <<'END'
import shutil
import sys
from pathlib import Path

from mdvit_jax.training import checkpoint

run = Path(sys.argv[1])
with checkpoint.Checkpoints(run, keep=None) as saved:
    best = run / "checkpoints" / str(saved.best)
for other in best.parent.iterdir():
    if other != best:
        shutil.rmtree(other)
shutil.rmtree(best / "progress")  # the optimiser's moments, of which eval.py knows nothing
(best / "SHA256SUMS").unlink(missing_ok=True)  # they are of all files
END
        tar -C "$work" -czf "$work/run.tgz" run
    fi
    split -b "${PIECE:-15}MB" -d "$work/run.tgz" "$out/run.tgz."
    echo "train: $what packed, $(du -h "$work/run.tgz" | cut -f1); to unpack: cat run.tgz.* |" \
        "tar xz" | tee -a "$work/table"
}

"$python" - >"$out/machine.txt" 2>&1 <<'END'
import jax

device = jax.devices()[0]
print(f"jax {jax.__version__}, {jax.device_count()} × {device.device_kind}, "
      f"{device.client.platform_version}".replace("\n", " "))
END
cat "$out/machine.txt"
case " ${chosen[*]} " in *" tests "*" throughput "*) compile_ahead ;; esac
for part in "${chosen[@]}"; do
    case " ${all_parts[*]} " in
    *" $part "*) "check_$part" ;;
    *) echo "$part: no such part; there are ${all_parts[*]}" | tee -a "$work/table" ;;
    esac
done

cd "$out" || exit 2
for part in machine "${all_parts[@]}"; do
    [ -f "$part.txt" ] && printf '\n== %s\n' "$part" && cat "$part.txt" && rm "$part.txt"
done >results.txt
printf '\n== how it went, %s s in all\n' "$SECONDS" | tee -a results.txt
tee -a results.txt <"$work/table"
