################################################################################
#
# gaunt
#
################################################################################

# The source tree that this BR2_EXTERNAL tree is in; it packs a finished `make build`.
GAUNT_VERSION = 0.1.0
GAUNT_SITE = $(realpath $(BR2_EXTERNAL_GAUNT_PATH)/../../..)
GAUNT_SITE_METHOD = local
GAUNT_LICENSE = MIT or Apache-2.0
GAUNT_LICENSE_FILES = LICENSE
# The copy of the source tree takes only what is installed.
GAUNT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--include /target/ --include /target/$(ARCH)-unknown-linux-musl/ \
	--include /target/$(ARCH)-unknown-linux-musl/release/ \
	--include /target/$(ARCH)-unknown-linux-musl/release/gaunt \
	--exclude '/target/**' --exclude /image/cache --exclude /tests

define GAUNT_INSTALL_WITH_INIT
	AGENT=$(@D)/target/$(ARCH)-unknown-linux-musl/release/gaunt \
		DESTDIR=$(TARGET_DIR) INIT=$(1) $(@D)/image/package/install install
endef
define GAUNT_INSTALL_INIT_SYSTEMD
	$(call GAUNT_INSTALL_WITH_INIT,systemd)
endef
define GAUNT_INSTALL_INIT_OPENRC
	$(call GAUNT_INSTALL_WITH_INIT,openrc)
endef
# busybox init and sysvinit: Buildroot starts /etc/init.d/S* in the order of their names.
define GAUNT_INSTALL_INIT_SYSV
	$(call GAUNT_INSTALL_WITH_INIT,sysvinit)
	ln -sf qemu-guest-agent $(TARGET_DIR)/etc/init.d/S05qemu-guest-agent
endef

$(eval $(generic-package))
