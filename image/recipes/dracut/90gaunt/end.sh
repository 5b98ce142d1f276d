#!/bin/sh
# Ends the agent of the initramfs if the root file system starts one of its own: a port has one agent. Without
# one the agent goes along to the root, unless systemd runs the initramfs: it ends all processes.
# shellcheck disable=SC2154 # dracut sets NEWROOT.
for service in lib/systemd/system/qemu-guest-agent.service usr/lib/systemd/system/qemu-guest-agent.service \
    etc/init.d/qemu-guest-agent; do
    if [ -e "$NEWROOT/$service" ]; then
        kill "$(cat /run/gaunt.initramfs.pid)"
        break
    fi
done
