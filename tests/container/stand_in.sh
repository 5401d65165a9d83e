#!/bin/bash
# A Debian with Python 3.11 under the name of the Dockerfiles' base image, made without a registry of images.
#   stand_in.sh STORE TAR NAME      STORE: where buildah keeps images; TAR: the file system, made where it is missing
set -euo pipefail
store=$1 tar=$2 name=$3
if [ ! -e "$tar" ]; then
    mkdir -p "$(dirname "$tar")"
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates,passwd bookworm "$tar.part.tar"
    mv "$tar.part.tar" "$tar"
fi
buildah=(buildah --root "$store/root" --runroot "$store/run")
container=$("${buildah[@]}" from scratch)
"${buildah[@]}" add --quiet "$container" "$tar" / >/dev/null
"${buildah[@]}" commit --quiet "$container" "$name" >/dev/null
"${buildah[@]}" rm "$container" >/dev/null
