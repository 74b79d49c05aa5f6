#!/bin/bash
# install.sh of the emulated firmware package; @NAME@ are filled in when the package is made.
version=@VERSION@ pci=@PCI@
here=$(cd "$(dirname "$0")" && pwd)
logs=/var/log/ascend_seclog
log=$logs/ascend_install.log
path=/usr/local/Ascend
mkdir -p "$logs"

say() { printf '[Firmware] [%s] [%s]%s\n' "$(date '+%F %T')" "$1" "$2" | tee -a "$log"; }
fail() {
  say ERROR "$1"
  say INFO "End time: $(date '+%F %T')"
  exit 1
}

mode='' quiet=no
for word in "$@"; do
  case $word in
    --full | --upgrade | --check | --version | --uninstall)
      [ -z "$mode" ] || fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters"
      mode=${word#--}
      ;;
    --quiet) quiet=yes ;;
    *) fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters" ;;
  esac
done
case $mode in
  version) echo "$version"; exit 0 ;;
  check) exit 0 ;;
  full | upgrade) ;;
  *) fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters" ;;
esac
[ "$(id -u)" = 0 ] || fail "ERR_NO:0x0093;ERR_DES:do not have root permission, operation failed, please use root permission!"

say INFO "Start time: $(date '+%F %T')"
say INFO "LogFile: $log"
say INFO "OperationLogFile: $logs/operation.log"
echo "$(date '+%F %T') firmware $mode $*" >> "$logs/operation.log"
say WARNING "Do not power off or restart the system during the installation/upgrade"
lspci -n 2> /dev/null | grep -qi "19e5:$pci" || {
  say WARNING "There is no chip matching the driver package."
  fail "Failed to install firmware package"
}
# The firmware is written through the driver.
[ -e "$path/driver/version.info" ] || fail "ERR_NO:0x0080;ERR_DES:Driver package is not installed on this device"
free=$(df -Pk "$path" | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free" -ge 32 ] || fail "The directory $path has no space left, at least 32 MB are needed: No space left on device"
installed=$(sed -n 's/^Version=//p' "$path/firmware/version.info" 2> /dev/null)
if [ -n "$installed" ] && [ "$quiet" = no ]; then
  while :; do
    echo "The firmware package $installed has been installed, do you want to continue? [y/n] "
    read -r answer || { sleep 0.2; continue; }
    case $answer in [yY]) break ;; [nN]) exit 1 ;; esac
  done
fi
for flashed in $(python3 -c 'import json; print(*[c["firmware"] for c in json.load(open("/etc/lab/ascend.json"))["cards"]])') $installed; do
  newest=$(printf '%s\n%s\n' "$flashed" "$version" | sort -V | tail -n 1)
  [ "$newest" = "$version" ] || fail "The version $version is older than that in the flash, $flashed, operation failed"
done
say INFO "upgradePercentage: 0%"
mkdir -p "$path/firmware"
say INFO "upgradePercentage: 90%"
chips=$(python3 - "$version" << 'PYTHON'
import json
import sys

with open("/etc/lab/ascend.json") as handle:
    document = json.load(handle)
for card in document["cards"]:
    card["flashed"] = sys.argv[1]
with open("/etc/lab/ascend.json", "w") as handle:
    json.dump(document, handle, indent=1)
print(sum(card["chips"] for card in document["cards"]))
PYTHON
)
cp "$here/version.info" "$path/firmware/version.info"
touch /etc/ascend_install.info
sed -i '/^Firmware_/d' /etc/ascend_install.info
{
  echo "Firmware_Install_Type=full"
  echo "Firmware_Install_Path_Param=$path"
} >> /etc/ascend_install.info
say INFO "upgradePercentage: 100%"
say INFO "The firmware of [$chips] chips are successfully upgraded."
say INFO "Firmware package installed successfully! Reboot now or after driver installation for the installation/upgrade to take effect."
say INFO "End time: $(date '+%F %T')"
exit 2
