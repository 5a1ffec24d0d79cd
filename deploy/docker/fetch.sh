#!/bin/sh
# The three ways in which an image build fetches something, each with the build secrets that happen to be there.
#   fetch.sh debian PACKAGE...   Debian packages, without recommended ones; the lists are removed again
#   fetch.sh tools               /build/tools: the locked build tools in a virtual environment
#   fetch.sh wheels LOCK         /build/wheels: the packages of that lock, built where they come as sources
set -eu

secrets=/run/secrets
[ ! -f "$secrets/pip_conf" ] || export PIP_CONFIG_FILE="$secrets/pip_conf"
[ ! -f "$secrets/ca_bundle" ] || export PIP_CERT="$secrets/ca_bundle"
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore DEBIAN_FRONTEND=noninteractive

debian() {
    export APT_CONFIG=/tmp/apt.conf
    : >"$APT_CONFIG"
    [ ! -f "$secrets/ca_bundle" ] || echo "Acquire::https::CAInfo \"$secrets/ca_bundle\";" >>"$APT_CONFIG"
    if [ -f "$secrets/apt_sources" ]; then
        install -D -m 0644 "$secrets/apt_sources" /tmp/sources/given.sources
        echo 'Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "/tmp/sources";' >>"$APT_CONFIG"
    fi
    apt-get -q update
    apt-get -q -y install --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /tmp/sources "$APT_CONFIG"
}

case $1 in
    debian)
        shift
        debian "$@"
        ;;
    tools)
        python3 -m venv tools
        tools/bin/pip install --require-hashes -r requirements/build.txt
        ;;
    wheels)
        tools/bin/pip wheel --require-hashes --no-build-isolation --wheel-dir wheels -r "requirements/$2.txt"
        ;;
esac
