# A NixOS module: imports = [ /path/to/gaunt/image/recipes/nixos/gaunt.nix ]; services.gaunt.enable = true;
#
# Packs a finished `make build` of the tree that this file is in. services.qemuGuest must stay off: a port
# has one agent.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.gaunt;
  target = "${pkgs.stdenv.hostPlatform.parsed.cpu.name}-unknown-linux-musl";
  gaunt = pkgs.runCommand "gaunt" { } ''
    install -D -m 755 ${cfg.agent} $out/bin/gaunt
    ln -s gaunt $out/bin/qemu-ga
    install -D -m 644 ${../../package/gaunt.8} $out/share/man/man8/gaunt.8
  '';
in
{
  options.services.gaunt = {
    enable = lib.mkEnableOption "the QEMU guest agent gaunt";
    agent = lib.mkOption {
      type = lib.types.path;
      default = ../../../target + "/${target}/release/gaunt";
      description = "The program, from `make build`.";
    };
    arguments = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ "-F" ];
      example = [ "-F" "--block-rpcs=guest-exec" ];
      description = "Options of gaunt(8).";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ gaunt ];
    boot.kernelModules = [ "virtio_console" ];
    systemd.services.gaunt = {
      description = "QEMU guest agent";
      documentation = [ "man:gaunt(8)" ];
      # The agent waits for its port, so no udev rule has to start it.
      wantedBy = [ "multi-user.target" ];
      unitConfig = {
        IgnoreOnIsolate = true;
        StartLimitIntervalSec = 0;
      };
      serviceConfig = {
        ExecStart = "${gaunt}/bin/gaunt ${lib.escapeShellArgs cfg.arguments}";
        KillMode = "process";
        Restart = "always";
        RestartSec = 1;
        TimeoutStopSec = "20min";
      };
    };
  };
}
