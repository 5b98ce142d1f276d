SUMMARY = "QEMU guest agent for guests that have nothing else in them"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://${GAUNT_SOURCE}/LICENSE;md5=0a5c25d68740a7e48429102f5a5736ee"

# Packs a finished `make build`; GAUNT_SOURCE, in local.conf, names the agent's source tree.
GAUNT_SOURCE ?= "${TOPDIR}/../gaunt"
COMPATIBLE_HOST = "(x86_64|aarch64).*-linux"

inherit systemd update-rc.d

SYSTEMD_SERVICE:${PN} = "qemu-guest-agent.service"
INITSCRIPT_NAME = "qemu-guest-agent"
INITSCRIPT_PARAMS = "defaults 05"

do_compile[noexec] = "1"
do_install() {
    # A distribution may have both: update-rc.d then expects the script beside the unit.
    for init in ${@bb.utils.filter('DISTRO_FEATURES', 'systemd sysvinit', d) or 'sysvinit'}; do
        AGENT=${GAUNT_SOURCE}/target/${TARGET_ARCH}-unknown-linux-musl/release/gaunt DESTDIR=${D} PREFIX=${prefix} \
            INIT=$init ${GAUNT_SOURCE}/image/package/install install
    done
}

FILES:${PN} += "${prefix}/lib/systemd ${prefix}/lib/udev ${datadir}/qemu-kvm ${datadir}/bash-completion"
# The program is static and already stripped.
INSANE_SKIP:${PN} += "already-stripped ldflags"
INHIBIT_PACKAGE_STRIP = "1"
RPROVIDES:${PN} = "qemu-guest-agent"
RCONFLICTS:${PN} = "qemu-guest-agent"
RREPLACES:${PN} = "qemu-guest-agent"
