#!/bin/bash
# A Debian 13 of a few packages as an image of a name, made without a registry of images.
#   stand_in.sh STORE TAR NAME PACKAGES    STORE: where buildah keeps images; TAR: the file system, made where it is missing
set -euo pipefail
store=$1 tar=$2 name=$3 packages=$4
if [ ! -e "$tar" ]; then
    mkdir -p "$(dirname "$tar")"
    mmdebstrap --quiet --variant=minbase --include="$packages" trixie "$tar.part.tar"
    mv "$tar.part.tar" "$tar"
fi
buildah=(buildah --root "$store/root" --runroot "$store/run")
container=$("${buildah[@]}" from scratch)
"${buildah[@]}" add --quiet "$container" "$tar" / >/dev/null
"${buildah[@]}" commit --quiet "$container" "$name" >/dev/null
"${buildah[@]}" rm "$container" >/dev/null
