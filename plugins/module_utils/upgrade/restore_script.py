# Copyright (c) 2026, the slipway.node authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script on the node that restores a kept generation, and the unit that calls it at boot.

The script needs neither Python nor Ansible. A generation is a directory whose file ``list`` has one line for each object, with
tabs between the fields:

- ``packages DIRECTORY``: the Debian packages of this directory (packages.py) are restored before anything else.
- ``file MODE UID GID COPY PATH``: a file. The name of COPY is the SHA-256 of its content. PATH is no symbolic link: a link
  and its target have lines of their own.
- ``link TARGET PATH``: a symbolic link.
- ``absent PATH``: neither a file nor a link was at PATH.
- ``database COPY PATH``: restored only on request. COPY.snapshots has the names in the directory ``snapshots`` beside PATH.

DIRECTORY and COPY are relative to the generation's directory, and PATH is absolute.
"""

from __future__ import annotations

from ansible_collections.slipway.node.plugins.module_utils.upgrade.packages import RESTORE_PACKAGES

SCRIPT = "/var/lib/slipway-node/restore"
UNIT_NAME = "slipway-restore.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT_NAME}"

# Each object is replaced by a rename, and is on disk before the next one. If the script is killed, it is called again until the
# journal says that the generation is restored. Temporary names are those of core/host/files.py, which readers of drop-ins skip.
RESTORE_SCRIPT = r"""#!/bin/sh
# Managed by slipway.node: changes made here are lost.
# Restores the state before an upgrade of containerd. Starts and stops no unit.
# Usage: restore                            takes back an interrupted upgrade, if there is one
#        restore unit                       does the same, unless a run is active, which starts containerd itself
#        restore GENERATION keep            restores a generation, and keeps the present databases
#        restore GENERATION restore         restores a generation with its databases
# The journal has the lines GENERATION=7, STEP=kept|switching|started|… and DATABASES=keep|restore.
set -eu
umask 077
export LC_ALL=C PATH="${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"

root=${SLIPWAY_ROOT:-}
state=$root/var/lib/slipway-node
journal=$state/upgrading
tab=$(printf '\t')
failed=

say() {
  echo "slipway: $*" >&2
}

die() {
  say "$*"
  exit 1
}

flush() {
  sync "$@" 2>/dev/null || sync
}

# Prints a value of the journal.
journal_value() {
  sed -n "s/^$1=//p" "$journal"
}

# Prints the temporary name beside a path, and creates its directory.
temporary() {
  if [ ! -d "${1%/*}" ]; then
    (umask 022 && mkdir -p "${1%/*}") && flush "${1%/*/*}" || return 1
  fi
  rm -f "${1%/*}/.slipway-${1##*/}.restore.tmp" && printf '%s\n' "${1%/*}/.slipway-${1##*/}.restore.tmp"
}

replace() {
  mv -fT "$1" "$2" && flush "${2%/*}"
}

__RESTORE_PACKAGES__
# A copy has its sum as its name: whether the file $1 is the copy $2.
is_copy() {
  sum=$(sha256sum <"$1") && [ "${sum%% *}" = "${2##*/}" ]
}

# Files and links that are right already stay: their file system may be full.
restore_file() {
  if [ ! -L "$5" ] && [ -f "$5" ] && is_copy "$5" "$4"; then
    chown "$2:$3" "$5" && chmod "$1" "$5" && flush "$5" && flush "${5%/*}"
    return
  fi
  new=$(temporary "$5") || return 1
  # The ACL and the attributes of the file that is replaced, where they are supported. The content may be a secret.
  if [ -f "$5" ]; then
    if cp --attributes-only --preserve=mode,xattr "$5" "$new" 2>/dev/null; then chmod 600 "$new"; else rm -f "$new"; fi
  fi
  cp "$4" "$new" || return 1
  is_copy "$new" "$4" || { say "$4 is damaged" && return 1; }
  # Its context, where SELinux is enabled.
  chcon --reference="$5" "$new" 2>/dev/null || true
  chown "$2:$3" "$new" && chmod "$1" "$new" && flush "$new" && replace "$new" "$5"
}

restore_link() {
  if [ "$(readlink "$2")" = "$1" ]; then
    flush "${2%/*}"
    return
  fi
  new=$(temporary "$2") && ln -s "$1" "$new" && replace "$new" "$2"
}

restore_absent() {
  rm -f "$1" && if [ -d "${1%/*}" ]; then flush "${1%/*}"; fi
}

# Also removes the directories of snapshots that are newer than the copy: containerd could not create snapshots of the same
# numbers, and would remove the directories at its next cleanup. COPY.snapshots names those that the copy knows.
restore_database() {
  new=$(temporary "$2") && cp -p "$1" "$new" && flush "$new" && replace "$new" "$2" || return 1
  [ -e "$1.snapshots" ] || return 0
  for path in "${2%/*}"/snapshots/*; do
    grep -qxF "${path##*/}" "$1.snapshots" || rm -rf --one-file-system "$path" || say "$path is in use, and stays"
  done
}

restore_object() {
  case $1 in
    packages) restore_packages "$directory/$2" ;;
    file) restore_file "$2" "$3" "$4" "$directory/$5" "$root$6" ;;
    link) restore_link "$2" "$root$3" ;;
    absent) restore_absent "$root$2" ;;
    database) restore_database "$directory/$2" "$root$3" ;;
    *) say "this script does not know lines with $1" && return 1 ;;
  esac
}

# Restores the packages, or all other objects. $1: "packages" or "others".
restore_objects() {
  while IFS="$tab" read -r kind a b c d e || [ -n "$kind" ]; do
    case $kind in
      packages) part=packages ;;
      *) part=others ;;
    esac
    if [ "$part" != "$1" ] || { [ "$kind" = database ] && [ "$databases" = keep ]; }; then continue; fi
    (restore_object "$kind" "$a" "$b" "$c" "$d" "$e") || {
      failed=yes
      say "cannot restore $kind $a $b $c $d $e of $directory"
    }
  done <"$directory/list"
}

# Restores a generation. Fails with a line for each object that can't be restored.
restore() {
  directory=$state/generations/$1
  [ -s "$directory/list" ] || die "generation $1 is not complete: $directory/list is missing or empty." \
    "Remove $journal to start containerd on the files that are there"
  # Packages first: dpkg may replace a configuration file.
  restore_objects packages
  restore_objects others
  [ ! -d "$root/run/systemd/system" ] || systemctl daemon-reload
  [ -z "$failed" ] || die "generation $1 is not back: repair the causes above, and call $0 $1 $databases"
  say "generation $1 is back (databases: $databases)"
}

if [ "${1:-}" = unit ]; then
  run=
  [ ! -e "$root/run/slipway-upgrading" ] || read -r run <"$root/run/slipway-upgrading" || true
  # A running upgrade holds the lock. Its process id alone proves nothing: the kernel reuses the id of a killed process.
  if [ -n "$run" ] && kill -0 "$run" 2>/dev/null && ! flock -n "$root/run/slipway-containerd.lock" true; then exit 0; fi
  set --
fi
generation=${1:-}
databases=${2:-keep}
mkdir -p "$root/run"
exec 9>>"$root/run/slipway-restore.lock"
flock 9
if [ $# = 0 ]; then
  [ -e "$journal" ] || exit 0
  case $(journal_value STEP) in kept | switching | started) ;; *) exit 0 ;; esac
  generation=$(journal_value GENERATION)
  databases=$(journal_value DATABASES)
fi
case $generation in '' | *[!0-9]*) die "the number of the generation is '$generation': give one below $state/generations" ;; esac
case $databases in keep | restore) ;; *) die "databases are '$databases': give keep or restore" ;; esac
restore "$generation" "$databases"
[ $# = 0 ] || exit 0
new=$(temporary "$journal")
text=$(sed 's/^STEP=.*/STEP=restored/' "$journal")
# On a full disk, the journal is overwritten.
if printf '%s\n' "$text" >"$new" && flush "$new"; then
  replace "$new" "$journal"
else
  rm -f "$new"
  printf '%s\n' "$text" >"$journal"
  flush "$journal"
fi
""".replace("__RESTORE_PACKAGES__\n", RESTORE_PACKAGES.lstrip())


def restore_unit(unit: str) -> str:
    """Return the text of the unit that takes back an interrupted upgrade before this unit of containerd starts."""
    return f"""# Managed by slipway.node: changes made here are lost.
[Unit]
Description=Take back an interrupted upgrade of containerd
ConditionPathExists=/var/lib/slipway-node/upgrading
RequiresMountsFor=/var/lib/slipway-node /usr/local /etc
Before={unit}
# It is called at each start of containerd.
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {SCRIPT} unit
# The unit of containerd is missing when the boot begins if its package was removed.
ExecStartPost=-/bin/sh -c "systemctl --no-block start {unit}"

[Install]
WantedBy=multi-user.target
RequiredBy={unit}
"""
