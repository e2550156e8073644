# Everyday commands. `just` lists them; https://just.systems explains the tool.

_default:
    @just --list

# Run all tests that need nothing but the Rust toolchain.
test *ARGS:
    cargo test --locked {{ ARGS }}

# Check formatting, lints, and the rules of STYLE.md.
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    tests/style

# Run everything that a change must pass.
ci:
    .ci/run

# Run the checks that take longer: simulation, fuzzing, kills, a soak, and interop at full length.
nightly:
    .ci/nightly

# Fuzz a target of fuzz/ until it fails or is interrupted (needs cargo-fuzz and a nightly toolchain).
fuzz TARGET *ARGS:
    cargo +nightly fuzz run --sanitizer none {{ TARGET }} {{ ARGS }}

# Install the third-party servers and run the tests against them.
interop:
    tests/interop/setup.sh
    KAPELL_REQUIRE_INTEROP=1 cargo test --locked --test interop

# Call the tools of the third-party servers of docs/interop.md: those named, `--all`, or the core.
interop-table *ARGS:
    cargo build --locked
    tests/interop/table/run {{ ARGS }}

# Run the official conformance suite in both eras.
conformance *ARGS:
    tests/interop/setup.sh conformance
    cargo build --locked
    tests/conformance/run {{ ARGS }}

# Regenerate the JSON Schemas of the files.
schemas:
    cargo run --locked --quiet -- schema plan > schemas/plan.schema.json
    cargo run --locked --quiet -- schema agents > schemas/agents.schema.json
    cargo run --locked --quiet -- schema answers > schemas/answers.schema.json

# Regenerate the pages of docs/reference from the sources.
reference:
    UPDATE_REFERENCE=1 cargo test --locked --test it -- documents::reference

# Build the book of docs/ below target/book (needs mdbook).
book:
    mdbook build docs

# Compare with a hand-written client; see docs/performance.md.
bench *ARGS:
    cargo bench --locked --bench host -- {{ ARGS }}

# Measure the run pages in Chromium: everything, or `open`, `live`, `cost`, `answer`, and `report`; see docs/performance.md.
bench-pages *ARGS:
    cargo build --locked --release
    npm --prefix web ci
    KAPELL=$PWD/target/release/kapell npm --prefix web run --silent bench -- {{ ARGS }}

# Build the API documentation, with warnings as errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

# Review changed snapshots (needs cargo-insta).
review:
    cargo insta review
