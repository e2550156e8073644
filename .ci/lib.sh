# What `.ci/run` and `.ci/nightly` share: where they run, a scratch folder, and named steps. Sourced, never run.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CARGO_TERM_COLOR=never

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'echo "== FAILED: ${name:-setting up}"' ERR

# step NAME COMMAND...: runs the command and says how long it took.
step() {
    name=$1
    shift
    local start=$SECONDS
    printf '\n== %s\n' "$name"
    "$@"
    printf '== %s: %d s\n' "$name" $((SECONDS - start))
}

interop() {
    tests/interop/setup.sh
    # Without the variable, tests against servers that are not installed are left out.
    KAPELL_REQUIRE_INTEROP=1 cargo test --locked --test interop
}

all_passed() {
    printf '\n== all passed in %d s\n' "$SECONDS"
}
