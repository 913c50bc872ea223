#!/bin/sh
# Raises what mantou's connections need on this machine, after showing it, and can undo it. Values come from knobs.ts.
# Nothing that is enough already is touched, so nothing is lowered.
set -eu

usage() {
  cat <<'END'
Usage: tuning/apply.sh CONNECTIONS [options]     as root; shows what it will do and asks
       tuning/apply.sh --undo [options]          puts back what was there before the first time

  --clients   also what a machine with test clients needs (local ports)
  --dry-run   only show; this is what happens when nobody can be asked and --yes is not given
  --yes       do not ask
  --root DIR  the machine whose /proc and /etc are in DIR, such as an image

Sets kernel parameters now (as sysctl -w does), writes /etc/sysctl.d/90-mantou.conf and
/etc/security/limits.d/90-mantou.conf for the next boots and logins, and keeps what was there in
/var/lib/mantou-tuning. BUN names the bun to use, when it is not on the PATH of root.
Exit codes: 0 done, or nothing to do; 1 failed in part or whole; 2 usage.
END
}

die() {
  printf '%s\n' "$1" >&2
  exit "${2:-1}"
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tab=$(printf '\t')
connections='' root='' side=broker mode=ask undo=no
while [ $# -gt 0 ]; do
  case $1 in
    --clients) side=clients ;;
    --dry-run) mode=dry ;;
    --yes) [ "$mode" = dry ] || mode=yes ;;
    --undo) undo=yes ;;
    --root)
      [ $# -ge 2 ] || die "--root needs a folder" 2
      root=${2%/}
      shift
      ;;
    --help)
      usage
      exit 0
      ;;
    -* | '')
      usage >&2
      exit 2
      ;;
    *)
      [ -z "$connections" ] || die "one number of connections, please" 2
      connections=$1
      ;;
  esac
  shift
done
if [ "$mode" = ask ] && ! [ -t 0 ]; then mode=dry; fi

saved=$root/var/lib/mantou-tuning
sysctl_file=$root/etc/sysctl.d/90-mantou.conf
limits_file=$root/etc/security/limits.d/90-mantou.conf

path_of() {
  printf '%s/proc/sys/%s' "$root" "$(printf %s "$1" | tr . /)"
}

value_of() {
  tr '\t' ' ' <"$(path_of "$1")"
}

# Writes a kernel parameter and looks whether the kernel took it.
write_value() {
  if { printf '%s\n' "$2" >"$(path_of "$1")"; } 2>/dev/null && [ "$(value_of "$1")" = "$2" ]; then return 0; fi
  printf 'not taken by the kernel: %s = %s\n' "$1" "$2" >&2
  failed=yes
  return 1
}

confirm() {
  case $mode in
    dry)
      echo "Nothing was changed (dry run)."
      exit 0
      ;;
    ask)
      printf 'Do this? [y/N] '
      read -r answer || answer=''
      case $answer in
        y | Y | yes) ;;
        *)
          echo "Nothing was changed."
          exit 1
          ;;
      esac
      ;;
  esac
  if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then die "only root can do this: sudo env \"PATH=\$PATH\" $0 …"; fi
}

# keep_file FILE: before a file is written for the first time, what was there, or that nothing was there.
keep_file() {
  name=$(basename "$(dirname "$1")")
  if [ -e "$saved/$name.before" ] || [ -e "$saved/$name.absent" ]; then return 0; fi
  if [ -e "$1" ]; then cp -p "$1" "$saved/$name.before"; else : >"$saved/$name.absent"; fi
}

restore_file() {
  name=$(basename "$(dirname "$1")")
  if [ -e "$saved/$name.before" ]; then cp -p "$saved/$name.before" "$1"; fi
  if [ -e "$saved/$name.absent" ]; then rm -f "$1"; fi
}

# ---- undo

if [ "$undo" = yes ]; then
  [ -e "$saved/values" ] || die "nothing to undo: there is no $saved/values" 0
  while IFS=$tab read -r key before; do
    printf '  %-34s %s -> %s\n' "$key" "$(value_of "$key" 2>/dev/null || echo 'not here')" "$before"
  done <"$saved/values"
  for file in "$limits_file" "$sysctl_file"; do
    name=$(basename "$(dirname "$file")")
    if [ -e "$saved/$name.before" ]; then echo "  $file as it was before"; fi
    if [ -e "$saved/$name.absent" ]; then echo "  $file removed"; fi
  done
  confirm
  failed=no
  # The files first: a login limit above fs.nr_open would refuse logins.
  restore_file "$limits_file"
  restore_file "$sysctl_file"
  while IFS=$tab read -r key before; do
    write_value "$key" "$before" || true
  done <"$saved/values"
  if [ "$failed" = yes ]; then die "not all values are back: $saved is kept"; fi
  rm -r "$saved"
  echo "Undone. Logins and services that run keep the descriptor limit they started with."
  exit 0
fi

# ---- show

case $connections in
  '' | *[!0-9]* | 0*)
    usage >&2
    exit 2
    ;;
esac
bun=${BUN:-$(command -v bun || true)}
[ -n "$bun" ] || die "bun is not on the PATH; BUN=/path/to/bun says where it is"
plan=$("$bun" "$here/plan.ts" "$connections" "$side" "${root:-/}") || die "no plan for $connections connections" 2

todo=no
printf 'For %s connections (present -> new):\n' "$connections"
while IFS='|' read -r action where key present wanted reason; do
  case $action in
    set)
      todo=yes
      if [ "$where" = nofile ]; then key="nofile, hard limit of logins"; fi
      printf '  set   %-34s %s -> %s\n' "$key" "$present" "$wanted"
      ;;
    keep) printf '  keep  %-34s %s\n' "$key" "$present" ;;
    skip) printf '  skip  %-34s %s\n' "$key" "$reason" ;;
  esac
done <<END
$plan
END
if [ "$todo" = no ]; then
  echo "Nothing to do."
  exit 0
fi
echo "  write $sysctl_file and, for the nofile limit, $limits_file"
confirm

# ---- do

failed=no
mkdir -p "$saved" "$(dirname "$sysctl_file")" "$(dirname "$limits_file")" || die "cannot write below ${root:-/}"
touch "$saved/values"
nofile=''
while IFS='|' read -r action where key _ wanted _; do
  [ "$action" = set ] || continue
  if [ "$where" = nofile ]; then
    nofile=$wanted
    continue
  fi
  # Noted before it is written, so that an interrupted run can be undone; the first note of a setting stays.
  cp "$saved/values" "$saved/values.prior"
  grep -q "^$key$tab" "$saved/values" || printf '%s\t%s\n' "$key" "$(value_of "$key")" >>"$saved/values"
  write_value "$key" "$wanted" || cp "$saved/values.prior" "$saved/values"
done <<END
$plan
END

keep_file "$sysctl_file"
{
  echo "# Written by mantou's tuning/apply.sh $connections; tuning/apply.sh --undo takes it back. What each is: tuning/README.md"
  while IFS=$tab read -r key before; do
    case $key in net.netfilter.*) printf %s - ;; esac # the module may come later than the file is read
    printf '%s = %s\n' "$key" "$(value_of "$key")"
  done <"$saved/values"
} >"$sysctl_file"

if [ -n "$nofile" ]; then
  nr_open=$(value_of fs.nr_open)
  if [ "$nofile" -le "$nr_open" ]; then
    keep_file "$limits_file"
    {
      echo "# Written by mantou's tuning/apply.sh $connections; tuning/apply.sh --undo takes it back."
      printf '%s hard nofile %s\n' '*   ' "$nofile" root "$nofile"
    } >"$limits_file"
  else
    echo "not written: $limits_file, since $nofile is above fs.nr_open $nr_open and logins would fail" >&2
    failed=yes
  fi
fi

if [ "$failed" = yes ]; then die "Done in part; tuning/apply.sh --undo takes back what was done."; fi
echo "Done. A new login sees the descriptor limit; tuning/apply.sh --undo takes everything back."
