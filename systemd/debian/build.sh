#!/usr/bin/env bash
# Builds hipedge_VERSION_ARCHITECTURE.deb in a folder: a virtual environment at /opt/hipedge with all
# that the services need, for the release of Debian or Ubuntu that this runs on.
#
#     systemd/debian/build.sh FOLDER
#
# Needs python3-venv. Packages come from the index that pip is set up for.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
output=$(realpath "${1:?usage: build.sh FOLDER}")
python=/usr/bin/python3  # the distribution's: the environment uses it on the target too
extras=service,clinic,web,openvino

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
venv=$root/opt/hipedge
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/pyproject.toml")
architecture=$(dpkg --print-architecture)
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')

# The wheel, from a copy: building leaves traces beside the source.
mkdir "$work/source" "$work/wheels"
cp -r "$source"/{pyproject.toml,README.md,LICENSE,hipedge} "$work/source"
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install -q --upgrade 'pip>=23'
"$work/tools/bin/pip" wheel -q --no-deps --wheel-dir "$work/wheels" "$work/source"

# The environment is made in a staging folder, and then told that it lies at /opt/hipedge.
"$python" -m venv --without-pip "$venv"
"$work/tools/bin/pip" --python "$venv/bin/python" install -q --no-compile \
    --find-links "$work/wheels" "hipedge[$extras]==$version"
grep -rlI "$venv" "$venv/bin" "$venv/pyvenv.cfg" | xargs sed -i "s|$venv|/opt/hipedge|g"
if grep -rlI "$work" "$venv"; then
    echo "build.sh: these files still name the staging folder" >&2
    exit 1
fi
# Compiled here, since the services may not write beside their code.
"$venv/bin/python" -m compileall -q -s "$root" "$venv/lib"

install -d "$root/usr/bin" "$root/usr/share/doc/hipedge" "$root/DEBIAN"
ln -s /opt/hipedge/bin/hipedge "$root/usr/bin/hipedge"
install -m 644 "$here/copyright" "$root/usr/share/doc/hipedge/copyright"
install -m 755 "$here"/{preinst,postinst,prerm} "$root/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
    -e "s/@MINOR@/$minor/" -e "s/@NEXT@/$((minor + 1))/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" \
    "$here/control" > "$root/DEBIAN/control"
dpkg-deb --root-owner-group -Zzstd -z10 --build "$root" "$output"
