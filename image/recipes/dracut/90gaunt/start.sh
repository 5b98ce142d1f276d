#!/bin/sh
# Starts the agent as early as possible; it waits for its port.
modprobe -a virtio_pci virtio_console 2>/dev/null
gaunt </dev/null >/dev/kmsg 2>&1 &
echo $! >/run/gaunt.initramfs.pid
