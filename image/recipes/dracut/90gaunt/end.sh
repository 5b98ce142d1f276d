#!/bin/sh
# Ends the agent of the initramfs if the root file system has one of its own: a port has one agent. Without
# one the agent goes along to the root, unless systemd runs the initramfs: it ends all processes.
# shellcheck disable=SC2154 # dracut sets NEWROOT.
for program in bin/gaunt sbin/qemu-ga bin/qemu-ga; do
    if [ -e "$NEWROOT/usr/$program" ]; then
        kill "$(cat /run/gaunt.initramfs.pid)"
        break
    fi
done
