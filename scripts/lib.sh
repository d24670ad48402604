# Shared by the scripts here: what the project needs on Debian and Ubuntu, and how it is built.

packages=(g++ cmake ninja-build pkg-config libdnnl-dev libhwy-dev libfmt-dev nlohmann-json3-dev
          libpcre2-dev libsentencepiece-dev libicu-dev zlib1g-dev)
test_packages=(libgtest-dev)

# install_missing PACKAGE...: installs what is not there yet, and says so.
install_missing() {
  local missing=()
  local package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  if ! command -v apt-get >/dev/null; then
    echo "These packages are needed (names as in Debian): ${missing[*]}" >&2
    exit 2
  fi
  echo "Installing with apt: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "Installing needs root: run as root, or install sudo." >&2; exit 2; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# configure_and_build FOLDER TARGET... : a release build; further CMake options in CMAKE_OPTIONS.
configure_and_build() {
  local folder=$1
  shift
  # A folder that was configured with another generator keeps it.
  local generator=()
  [ -f "$folder/CMakeCache.txt" ] || generator=(-G Ninja)
  # shellcheck disable=SC2086
  cmake -S . -B "$folder" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release ${CMAKE_OPTIONS:-}
  cmake --build "$folder" --parallel "$(nproc)" --target "$@"
}
