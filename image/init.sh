#!/bin/sh
# PID 1 of the busybox image: mounts, loads modules, starts the agent, serves a shell on the second serial
# port.
#
# Words after `--` on the kernel command line are arguments of the agent. Before it, `image.agent=off`
# does not start the agent, `image.mount=off` does not mount the disks.
# Failed commands report an error on the console, and the script goes on: PID 1 must not end, and a test
# learns more from the shell than from a panic.
export PATH=/bin HOME=/root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs -o mode=755 run /run
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox hostname -F /etc/hostname
# All files in the archive belong to root, so the home directory is made here.
/bin/busybox mkdir -p /home/user
/bin/busybox chown 1000:1000 /home/user
/bin/busybox modprobe -a $(/bin/busybox cat /etc/modules)

/bin/busybox ip link set lo up
if [ -d /sys/class/net/eth0 ]; then
    /bin/busybox ip addr add 10.0.2.15/24 dev eth0
    /bin/busybox ip link set eth0 up
    /bin/busybox ip route add default via 10.0.2.2
fi

read -r cmdline </proc/cmdline
case " $cmdline " in
*" image.mount=off "*) ;;
*)
    while read -r device directory type rest; do
        if [ -b "$device" ]; then
            /bin/busybox mount -t "$type" "$device" "$directory"
        fi
    done </etc/fstab
    ;;
esac

# Standard input is /dev/null, as under most supervisors. The log goes to a file on tmpfs.
printf '%s\n' "$*" >/run/agent.args
case " $cmdline " in
*" image.agent=off "*) ;;
*)
    /usr/bin/gaunt "$@" </dev/null >/run/agent.log 2>&1 &
    echo $! >/run/agent.pid
    ;;
esac

# A shell for test programs. Its output is a pipe, so that it is not interactive and prints no prompt. It is
# restarted when it ends, because a shutdown kills it; so each one prints the boot_id, which shows whether
# the guest has rebooted.
read -r boot </proc/sys/kernel/random/boot_id
port=/dev/ttyAMA1 # On aarch64.
[ -c "$port" ] || port=/dev/ttyS1
/bin/busybox stty -F "$port" raw -echo
while :; do
    (
        echo "shell: ready $boot"
        exec /bin/busybox sh
    ) <"$port" 2>&1 | /bin/busybox cat >"$port"
done
