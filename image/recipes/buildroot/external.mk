include $(sort $(wildcard $(BR2_EXTERNAL_GAUNT_PATH)/package/*/*.mk))
