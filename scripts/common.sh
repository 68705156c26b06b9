# shellcheck shell=bash
# What the scripts share: where the project is, and how they talk to the person at the terminal.

# The scripts refer to everything from here, so they work from any directory.
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export root

# Progress goes to stderr: stdout belongs to the program that is started in the end.
say() { printf '[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }

# die MESSAGE: what is wrong and what to do next, in one line.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The comment block at the head of the calling script is its help.
usage() { sed -n '2{:next; s/^# \{0,1\}//p; n; /^#/b next; q}' "$0"; }
