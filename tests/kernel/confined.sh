# Inside the virtual machine, under systemd: hastd as its unit confines it makes the kernel's devices. Prints a line for
# each step; the host looks for the last.
step() { printf '[%s] %s\n' "$(cut -d. -f1 /proc/uptime)" "$*"; }
fail() {
	step "FAILED: $*"
	journalctl -b --no-pager -o short-monotonic -u hastd -u hast-action | tail -n 60
	exit 1
}
until_s() { # SECONDS COMMAND: waits until it succeeds
	limit=$1
	shift
	while ! sh -c "$*" >/dev/null 2>&1; do
		[ "$limit" -gt 0 ] || fail "in vain: $*"
		limit=$((limit - 1))
		sleep 1
	done
}
again() { # COMMAND: on a busy host this machine may need longer to start a helper than that has
	for _ in 1 2 3 4 5; do
		"$@" && return 0
		step "refused, ordered again: $*"
	done
	fail "$*"
}
worker_of() { hastctl list "$1" | awk '/workerpid|pid:/ {print $2; exit}'; }

step "booted: $(uname -r), systemd $(systemctl --version | awk 'NR == 1 {print $2}')"
cat >/etc/hast.conf <<'END'
timeout 20
resource disk1 { device ublk on machine { local /srv/disk1 remote none } }
resource disk2 { device nbd on machine { local /srv/disk2 remote none } }
END
truncate -s 96M /srv/disk1 /srv/disk2
hastctl check || fail check
hastctl create disk1 disk2 || fail create
systemctl start hast.target
until_s 120 "systemctl is-active -q hastd"
for module in ublk_drv nbd tls; do
	grep -q "^$module " /proc/modules || fail "the unit did not have $module loaded"
done
step "hastd is active: $(systemctl show -p NoNewPrivileges,DevicePolicy,RestrictNamespaces --value hastd | xargs)"

for disk in disk1 disk2; do
	again hastctl role primary $disk
	until_s 60 "test -b /dev/hast/$disk"
	step "$disk: $(readlink -f /dev/hast/$disk), $(hastctl list $disk | grep -i 'device' | xargs)"
done
case $(readlink -f /dev/hast/disk1) in /dev/ublkb*) ;; *) fail "disk1 is no ublk device" ;; esac
case $(readlink -f /dev/hast/disk2) in /dev/nbd*) ;; *) fail "disk2 is no nbd device" ;; esac

for disk in disk1 disk2; do
	mkfs.ext4 -q /dev/hast/$disk && mkdir -p /mnt/$disk && mount /dev/hast/$disk /mnt/$disk || fail "file system on $disk"
	head -c 20000000 /dev/urandom >/mnt/$disk/data && sync
	sha256sum /mnt/$disk/data >/run/$disk.sum
	pid=$(worker_of $disk)
	step "$disk: worker is $(ps -o user:20= -p "$pid"), $(grep CapEff "/proc/$pid/status" | xargs)"
	kill -9 "$pid"
	echo again >/mnt/$disk/more && sync || fail "write on $disk after its worker was killed"
	until_s 60 "test \"\$(hastctl list $disk | awk '/workerpid|pid:/ {print \$2; exit}')\" != $pid"
	echo 3 >/proc/sys/vm/drop_caches
	sha256sum -c --quiet /run/$disk.sum || fail "data on $disk"
	step "$disk: outlived its worker"
done

systemctl kill --kill-whom=main --signal=KILL hastd
until_s 60 "systemctl is-active -q hastd && hastctl status --json all"
systemctl restart hastd || fail restart
for disk in disk1 disk2; do
	until_s 60 "hastctl list $disk | grep -q 'role: primary'"
	echo 3 >/proc/sys/vm/drop_caches
	sha256sum -c --quiet /run/$disk.sum && echo restarted >/mnt/$disk/more && sync || fail "use of $disk after the restart"
	umount /mnt/$disk && e2fsck -fn /dev/hast/$disk >/dev/null 2>&1 || fail "file system of $disk"
done
step "both outlived hastd and its restart"

again hastctl role init disk1 disk2
until_s 30 "! ls /dev/hast/disk1 /dev/hast/disk2 /dev/ublkb0"
journalctl -b -o cat -u hastd -u hast-action | grep -E 'Operation not permitted|Permission denied|Read-only file system' && fail "forbidden, and needed"
step "CONFINED: ALL STEPS PASSED"
