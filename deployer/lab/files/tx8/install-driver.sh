#!/bin/bash
# What runs inside Tsm_driver_…_installer.run; @VERSION@ is filled in when the package is made. `install silicon` is all
# that the vendor's guides say. That it needs the kernel's headers follows from the package carrying the module's source.
version=@VERSION@
here=$(cd "$(dirname "$0")" && pwd)
log=/var/log/tsm_driver_install.log

say() { printf '[%s] %s\n' "$(date '+%F %T')" "$*" | tee -a "$log"; }
fail() { say "ERROR: $*"; exit 1; }
flag() { [ -e "/etc/lab/faults/$1" ]; }

[ "$*" = "install silicon" ] || { echo "usage: Tsm_driver_${version}_x86_64_installer.run install silicon"; exit 1; }
[ "$(id -u)" = 0 ] || fail "root permission is needed"
cards=$(sed -n 's/.*"cards": *\([0-9]*\).*/\1/p' /etc/lab/tx8.json 2> /dev/null)
[ -n "$cards" ] || fail "no TX8 device found on the PCI bus"
screen=$(sed -n 's/.*"smi": *"\([a-z]*\)".*/\1/p' /etc/lab/tx8.json)
mkdir -p /run/lab
exec 9> /run/lab/tx8-installer.lock
flock -n 9 || fail "another installer is bringing up the chips"
say "driver $version: install silicon"
[ -d "/lib/modules/$(uname -r)/build/." ] || fail "kernel headers of $(uname -r) not found, cannot compile the module"
for tool in gcc make; do
  command -v "$tool" > /dev/null || fail "$tool: command not found"
done
say "compiling the kernel module"
flag installer-killed && kill -KILL $$
mkdir -p /usr/local/kuiper/bin /usr/local/kuiper/driver
install -m 755 "$here/tsm_smi" /usr/local/kuiper/bin/tsm_smi
ln -sf /usr/local/kuiper/bin/tsm_smi /usr/bin/tsm_smi
printf '%s\n' "$version" > /usr/local/kuiper/driver/version
say "bringing up $((cards * 4)) chips"
flag silicon-down && fail "chip 7 did not answer within 30 s"
mkdir -p /dev/accel
chips=$((cards * 4))
[ -e /dev/accel_drv_mgr ] || mknod /dev/accel_drv_mgr c 1 3
for number in $(seq 0 $((chips - 1))); do
  if flag silicon-slow; then
    sleep "$(awk -v all="$(cat /etc/lab/faults/silicon-slow)" -v chips="$chips" 'BEGIN { print all / chips }')"
    say "chip $number is up"
  fi
  [ -e "/dev/accel/dev-$number" ] || mknod "/dev/accel/dev-$number" c 1 3
  printf '{"version": "%s", "chips": %s, "smi": "%s"}\n' "$version" $((number + 1)) "$screen" > /run/lab/tx8.new
  mv /run/lab/tx8.new /run/lab/tx8.json
done
say "silicon is ready"
# In the guide it has a window of its own; whether it ever returns there is not said.
if flag installer-stays; then
  while :; do sleep 5; say "device is alive"; done
fi
