# What `.ci/run` and `.ci/nightly` share: where they run, a scratch folder, named steps, and tools. Sourced, never run.
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

cargo_fuzz=0.13.2

# Tools of the versions wanted here must not replace those that a developer has installed.
tools=$(cd "$target" && pwd)/tools
export PATH="$tools/bin:$PATH"

# tool NAME VERSION: installs `cargo NAME`, unless it is there in that version.
tool() {
    case "$(cargo "$1" --version 2>&1 || true)" in
        *" $2") echo "cargo-$1 $2 is there" ;;
        # Optimizing the tools takes longer than their work without it.
        *) CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --debug --root "$tools" --version "$2" "cargo-$1" ;;
    esac
}

# fuzz SECONDS: runs each target for that long. What it finds beyond the corpus of the repository stays below `target/`.
# Sanitizers are off, because almost all code is safe: it looks for panics, hangs, and memory without a limit.
fuzz() {
    if ! cargo +nightly --version; then
        echo "skipped: cargo-fuzz needs a nightly toolchain (rustup toolchain install nightly)"
        return
    fi
    tool fuzz "$cargo_fuzz"
    local corpus
    corpus=$(cd "$target" && pwd)/fuzz-corpus
    for file in fuzz/fuzz_targets/*.rs; do
        local name
        name=$(basename "$file" .rs)
        mkdir -p "$corpus/$name"
        # New inputs go to the first folder.
        cargo +nightly fuzz run --sanitizer none --target-dir "$target/fuzz" "$name" "$corpus/$name" "fuzz/corpus/$name" \
            -- -max_total_time="$1" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1
    done
}

interop() {
    tests/interop/setup.sh
    # Without the variable, tests against servers that are not installed are left out.
    KAPELL_REQUIRE_INTEROP=1 cargo test --locked --test interop
}

# interop_table [--all]: calls the tools of third-party servers with the release build, and compares docs/interop.md with
# the result.
interop_table() {
    KAPELL="$(cd "$target" && pwd)/release/kapell" tests/interop/table/run "$@"
}

# conformance: runs the official suite against the release build, in both eras.
conformance() {
    tests/interop/setup.sh conformance
    KAPELL="$(cd "$target" && pwd)/release/kapell" tests/conformance/run
}

# packages: builds, installs, and uses the packages, and checks the manual pages and the completion scripts.
packages() {
    local as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo -n"
    if ! { $as_root apt-get update -q && $as_root apt-get install -q -y mandoc zsh fish; }; then
        echo "apt-get does not install mandoc, zsh, and fish here"
    fi
    packaging/check "$target/release/kapell"
}

all_passed() {
    printf '\n== all passed in %d s\n' "$SECONDS"
}
