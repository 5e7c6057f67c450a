#!/bin/bash
# Builds Ollama 0.17.4 from its Go module for tests, as DIR/ollama: about 350 CPU seconds, once.
# Needs go (1.24 or newer, or 1.21 and the right to fetch one), g++, apt and python3 with pip. Usage: scripts/install_ollama.sh DIR
set -euo pipefail
target=$(realpath -m "${1:?usage: install_ollama.sh DIR}")
if [ -x "$target/ollama" ]; then exit 0; fi
for program in go g++ apt-get dpkg python3; do
  command -v "$program" >/dev/null || { echo "install_ollama.sh: $program is missing; install it first" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

# three header-only libraries that the module's archive lacks
mkdir -p include/miniaudio debs
headers=(nlohmann-json3-dev libstb-dev)
apt-get download -q "${headers[@]}" || { apt-get update -q && apt-get download -q "${headers[@]}"; }
for package in *.deb; do dpkg -x "$package" debs; done
python3 -m pip download -q --no-deps --no-binary miniaudio miniaudio==1.71 -d .
tar xzf miniaudio-1.71.tar.gz
cp -r debs/usr/include/nlohmann debs/usr/include/stb include/
cp miniaudio-1.71/miniaudio/miniaudio.h include/miniaudio/

# Without AVX2 the CPU backend makes half a token a second. Not -march=native: where the CPU has AMX, that asks for
# a part of the backend which the Go build leaves out, and linking fails.
optimise="-O3 -march=x86-64-v3"
GOBIN="$work/bin" GOFLAGS=-mod=mod CGO_CPPFLAGS="-I$work/include" CGO_CFLAGS="$optimise" CGO_CXXFLAGS="$optimise" \
  go install github.com/ollama/ollama@v0.17.4
mkdir -p "$target"
mv "$work/bin/ollama" "$target/ollama.part"
mv "$target/ollama.part" "$target/ollama"   # never a half-written program under its final name
