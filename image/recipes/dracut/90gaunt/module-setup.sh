#!/bin/bash
# The agent in a dracut initramfs. The directory goes to /usr/lib/dracut/modules.d/90gaunt.

check() {
    [[ -x ${GAUNT:-/usr/bin/gaunt} ]]
}

installkernel() {
    hostonly='' instmods virtio_pci virtio_console
}

install() {
    inst_binary "${GAUNT:-/usr/bin/gaunt}" /usr/bin/gaunt
    # shellcheck disable=SC2154 # dracut sets moddir.
    inst_hook pre-udev 10 "$moddir/start.sh"
    # shellcheck disable=SC2154
    inst_hook cleanup 90 "$moddir/end.sh"
}
