#!/bin/bash
# Builds libcaf_core 0.17.6 with a sanitizer, from the source of Debian's package.
# usage: build_caf_tsan.sh PREFIX [thread|address]
# Result: PREFIX/lib/libcaf_core.so.0.17.6 and PREFIX/include (compile against these: some
# reference counting is inline). Needs dpkg-dev, cmake, ninja-build, g++-12, libcaf-dev.
# The system's apt configuration is not changed: a private copy of the configured sources gets
# `deb-src` lines and its own list folder.
set -euo pipefail
prefix=$(realpath -m "${1:?prefix}"); sanitizer=${2:-thread}
name=actor-framework version=0.17.6-2.1 # Debian's source name differs from libcaf
work=$prefix/src; mkdir -p "$work" "$prefix/apt/lists/partial" "$prefix/apt/parts"
orig=$work/${name}_0.17.6.orig.tar.gz dsc=$work/${name}_$version.dsc

if [ ! -e "$orig" ]; then
  for f in /etc/apt/sources.list.d/*.sources; do       # deb822: "Types: deb" -> "Types: deb-src"
    [ -e "$f" ] && grep -q bookworm "$f" || continue
    sed 's/^Types:.*/Types: deb-src/' "$f" >"$prefix/apt/parts/$(basename "$f")"
  done
  : >"$prefix/apt/sources.list"
  if [ -s /etc/apt/sources.list ]; then                 # one-line style
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$prefix/apt/sources.list"
  fi
  apt=(apt-get -o Dir::Etc::sourcelist="$prefix/apt/sources.list"
       -o Dir::Etc::sourceparts="$prefix/apt/parts" -o Dir::State::lists="$prefix/apt/lists"
       -o APT::Sandbox::User=root)
  "${apt[@]}" -qq update
  # Keeps what it gets even if one part (the .debian.tar.xz of patches) is not served.
  (cd "$work" && "${apt[@]}" -qq --download-only source "$name=$version") || true
fi
want=$(sed -n '/^Checksums-Sha256/,/^Files/s/^ \([0-9a-f]*\) .*orig\.tar\.gz$/\1/p' "$dsc")
echo "$want  $orig" | sha256sum --check
rm -rf "$work/caf"
if [ -e "$work/${name}_$version.debian.tar.xz" ]; then
  dpkg-source -x "$dsc" "$work/caf"                     # with Debian's patches
else
  echo "note: Debian's patches were not served; building the unpatched upstream source"
  mkdir "$work/caf" && tar xf "$orig" -C "$work/caf" --strip-components=1
fi
# Same headers as the package we ship with (build_config.hpp is generated, so not in the source).
diff -rq "$work/caf/libcaf_core/caf" /usr/include/caf | grep '^Files' && exit 1

# -DNDEBUG as in Debian's build: CAF_ASSERT off. Log level as in Debian's build_config.hpp.
cmake -S "$work/caf" -B "$prefix/build" -G Ninja -DCMAKE_CXX_COMPILER=g++-12 \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
  -DCMAKE_CXX_FLAGS="-O1 -g1 -fno-omit-frame-pointer -fsanitize=$sanitizer -DNDEBUG -w" \
  -DCMAKE_SHARED_LINKER_FLAGS="-fsanitize=$sanitizer" \
  -DCMAKE_EXE_LINKER_FLAGS="-fsanitize=$sanitizer" \
  -DCAF_LOG_LEVEL=QUIET -DCAF_NO_AUTO_LIBCPP=yes -DCAF_NO_IO=yes -DCAF_NO_OPENSSL=yes \
  -DCAF_NO_OPENCL=yes -DCAF_NO_PYTHON=yes -DCAF_NO_TOOLS=yes -DCAF_NO_EXAMPLES=yes \
  -DCAF_NO_UNIT_TESTS=yes -DCAF_NO_BENCHMARKS=yes
ninja -C "$prefix/build" -j"${JOBS:-2}" install >"$prefix/ninja.log" || { tail -40 "$prefix/ninja.log"; exit 1; }
diff "$prefix/include/caf/detail/build_config.hpp" /usr/include/caf/detail/build_config.hpp || true
ls -l "$prefix"/lib/libcaf_core*
