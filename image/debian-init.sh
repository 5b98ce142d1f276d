#!/bin/busybox sh
# PID 1 of the Debian guest's initramfs: mounts the first disk, copies /install onto it, makes it the root
# and starts its init: /sbin/init, or the program that the kernel command line names with `init=`.
export PATH=/bin
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
$busybox modprobe -a $($busybox cat /etc/modules)
# Modules that a test has added.
for module in /root/modules/*.ko; do
    [ ! -e "$module" ] || $busybox insmod "$module"
done
$busybox mkdir -p /disk
tries=0
until $busybox mount -t ext4 /dev/vda /disk; do
    tries=$((tries + 1))
    [ $tries -lt 50 ] || exec $busybox sh
    $busybox sleep 0.1
done
[ ! -d /install ] || $busybox cp -a /install/. /disk/
for directory in proc sys dev; do
    $busybox mount --move /$directory /disk/$directory
done
init=/sbin/init
for word in $($busybox cat /disk/proc/cmdline); do
    case $word in
    init=*) init=${word#init=} ;;
    esac
done
exec $busybox switch_root /disk $init
