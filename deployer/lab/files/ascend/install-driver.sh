#!/bin/bash
# install.sh of the emulated driver package; @NAME@ are filled in when the package is made.
chip=@CHIP@ version=@VERSION@ pci=@PCI@
here=$(cd "$(dirname "$0")" && pwd)
logs=/var/log/ascend_seclog
log=$logs/ascend_install.log
mkdir -p "$logs"

say() { # say LEVEL TEXT
  printf '[Driver] [%s] [%s]%s\n' "$(date '+%F %T')" "$1" "$2" | tee -a "$log"
}
error() {
  printf '[Driver] [%s] [ERROR]%s\n' "$(date '+%F %T')" "$1" | tee -a "$log"
}
fail() {
  error "$1"
  say INFO "End time: $(date '+%F %T')"
  exit 1
}
flag() { [ -e "/etc/lab/faults/$1" ]; }

mode='' quiet=no all=no user=HwHiAiUser group=HwHiAiUser path=/usr/local/Ascend named=0
count=$#
for word in "$@"; do
  case $word in
    --full | --run | --devel | --docker | --upgrade | --uninstall | --version | --check)
      [ -z "$mode" ] || fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters"
      mode=${word#--}
      ;;
    --quiet) quiet=yes ;;
    --install-for-all) all=yes ;;
    --install-username=*) user=${word#*=} named=$((named + 1)) ;;
    --install-usergroup=*) group=${word#*=} named=$((named + 1)) ;;
    --install-path=*) path=${word#*=} ;;
    --vnpu_host | --vnpu_guest | --vnpu_docker_host) ;;
    *) fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters" ;;
  esac
done
case $mode in
  version) echo "$version"; [ "$count" = 1 ]; exit $? ;;
  check) [ "$count" = 1 ]; exit $? ;;
  '') fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters" ;;
  uninstall)
    [ "$count" = 1 ] || [ "$quiet" = yes ] || fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters"
    [ -e "$path/driver/version.info" ] || fail "ERR_NO:0x0080;ERR_DES:Runtime package is not installed on this device"
    ;;
esac
[ "$all" = no ] || case $mode in full | run | devel | upgrade) ;; *) fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters" ;; esac
[ "$named" != 1 ] || fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters"
[ "$mode" != upgrade ] || [ "$named" = 0 ] || fail "ERR_NO:0x0004;ERR_DES: Unrecognized parameters"
[ "$(id -u)" = 0 ] || fail "ERR_NO:0x0093;ERR_DES:do not have root permission, operation failed, please use root permission!"

say INFO "Start time: $(date '+%F %T')"
say INFO "LogFile: $log"
say INFO "OperationLogFile: $logs/operation.log"
echo "$(date '+%F %T') $mode $*" >> "$logs/operation.log"

if [ "$mode" = uninstall ]; then
  dkms remove -m davinci_ascend -v 1.0
  find "$path/driver" -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +
  say INFO "Driver package uninstalled successfully! Reboot needed for uninstallation to take effect!"
  exit 2
fi

say WARNING "Do not power off or restart the system during the installation/upgrade"
missing=''
for tool in lspci ifconfig; do
  command -v "$tool" > /dev/null || missing=$missing$tool,
done
[ -z "$missing" ] || fail "The list of missing tools: $missing"
getent passwd "$user" > /dev/null || fail "ERR_NO:0x0091;ERR_DES:$user not exists! Please add $user"
say INFO "set username and usergroup, $user:$group"
lspci -n 2> /dev/null | grep -qi "19e5:$pci" || {
  say WARNING "There is no chip matching the driver package."
  fail "Failed to install driver package, please retry after uninstall and reboot!"
}
free=$(df -Pk "$(dirname "$path")" | awk 'NR == 2 { print int($4 / 1024) }')
[ -d "$path" ] && free=$(df -Pk "$path" | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free" -ge 300 ] || fail "The directory $path has no space left, at least 300 MB are needed: No space left on device"

installed=$(sed -n 's/^Version=//p' "$path/driver/version.info" 2> /dev/null)
if [ -n "$installed" ] && [ "$quiet" = no ]; then
  # With stdin closed this never ends: the reason for --quiet.
  while :; do
    echo "The driver package $installed has been installed, do you want to continue? [y/n] "
    read -r answer || { sleep 0.2; continue; }
    case $answer in [yY]) break ;; [nN]) exit 1 ;; esac
  done
fi
newest=$(printf '%s\n%s\n' "$installed" "$version" | sort -V | tail -n 1)
if [ -n "$installed" ] && [ "$newest" != "$version" ]; then
  fail "The version $version is older than the installed version $installed, operation failed"
fi

say INFO "driver install type: DKMS"
say INFO "upgradePercentage:10%"
for tool in gcc make dkms; do
  command -v "$tool" > /dev/null || {
    echo "$tool: command not found" >> "$log"
    fail "Dkms install failed, details in : $log"
  }
done
mkdir -p "$path/driver"
find "$path/driver" -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +
say INFO "upgradePercentage:30%"
cp -r "$here/driver/." "$path/driver/"
say INFO "upgradePercentage:40%"
if flag installer-killed; then
  kill -KILL $$
fi
rm -rf /usr/src/davinci_ascend-1.0
cp -r "$here/source" /usr/src/davinci_ascend-1.0
! flag dkms-failing || echo '#error "MIN" redefined' >> /usr/src/davinci_ascend-1.0/davinci_ascend.c
dkms remove -m davinci_ascend -v 1.0 > /dev/null 2>&1
for phase in add build install; do
  dkms "$phase" -m davinci_ascend -v 1.0 -k "$(uname -r)" >> "$log" 2>&1 || {
    cat /var/lib/dkms/davinci_ascend/1.0/build/make.log >> "$log" 2> /dev/null
    fail "Dkms install failed, details in : $log"
  }
done
install -D -m 755 "$here/npu-smi" /usr/local/sbin/npu-smi
say INFO "upgradePercentage:90%"
cp "$here/version.info" "$path/driver/version.info"
touch /etc/ascend_install.info
sed -i '/^UserName=/d;/^UserGroup=/d;/^Driver_/d' /etc/ascend_install.info
{
  echo "UserName=$user"
  echo "UserGroup=$group"
  echo "Driver_Install_Type=full"
  echo "Driver_Install_Path_Param=$path"
  [ "$all" = no ] || echo "Driver_Install_For_All=yes"
  echo "Driver_Install_Mode=normal"
} >> /etc/ascend_install.info
say INFO "upgradePercentage:100%"
say INFO "Driver package installed successfully! Reboot needed for installation/upgrade to take effect! "
say INFO "End time: $(date '+%F %T')"
exit 2
