//! Disks, file systems, statistics, trim and freeze, compared with qemu-ga on this machine and in a
//! guest with disks of every kind that QEMU and the kernel support.
//!
//! Guest: the busybox image with qemu-ga, dmsetup, mdadm and kernel modules added. Needs QEMU, the
//! images, dmsetup, mdadm and mkfs of ext4, XFS and btrfs. NVMe multipath, channel devices, virtio-mmio
//! and USB are not available there: the agent's unit tests cover them on captured and made-up trees.

use std::collections::BTreeMap;
use std::path::Path;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::compare::{assert_same_reply, compare};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::process::program;
use gaunt_e2e::scratch::Scratch;
use serde_json::{Value, json};

const COMMANDS: [&str; 4] = [
    "guest-get-disks",
    "guest-get-fsinfo",
    "guest-get-diskstats",
    "guest-get-cpustats",
];

#[test]
fn disks_of_this_machine_equal_those_of_qemu_ga() {
    let mut rows: Vec<Vec<u8>> = COMMANDS
        .iter()
        .map(|name| request(name, &json!({})).into_bytes())
        .collect();
    for name in COMMANDS {
        rows.push(request(name, &json!({ "x": 1 })).into_bytes());
    }
    compare("disks of this machine", &rows);
}

/// Makes a disk image with four empty partitions.
fn four_partitions(path: &Path) {
    let mut table = vec![0; 16 << 20];
    for index in 0..4_u32 {
        let entry = &mut table[446 + 16 * index as usize..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&(2048 * (1 + index)).to_le_bytes());
        entry[12..16].copy_from_slice(&2048_u32.to_le_bytes());
    }
    table[510..512].copy_from_slice(&[0x55, 0xAA]);
    std::fs::write(path, table).expect("an image");
}

/// Commands that prepare the guest. Each line must succeed.
const SET_UP: &str = "\
for m in /root/modules/*; do insmod $m || echo no $m; done; sleep 2
mkdir -p /run/udev/data /mnt/a /mnt/b /mnt/c /mnt/d /mnt/e /mnt/f /mnt/g /mnt/h /mnt/i
printf '0 20000 linear /dev/vdc 0\\n20000 12000 linear /dev/vdd 0\\n' | $DM create vg-lv --uuid LVM-0123456789
echo 0 30000 linear /dev/mapper/vg-lv 0 | $DM create luks-x --uuid CRYPT-LUKS2-abc-luks-x
$MD --build /dev/md0 --assume-clean --level=1 --raid-devices=2 /dev/vdf /dev/vdg
mke2fs /dev/mapper/luks-x >/dev/null; mke2fs /dev/md0 >/dev/null
dd if=/dev/zero of=/tmp/loop bs=1M count=8 2>/dev/null; losetup /dev/loop3 /tmp/loop; mke2fs /dev/loop3 >/dev/null
mount -t ext4 /dev/mapper/luks-x /mnt/a
mount -t ext4 /dev/md0 /mnt/b
mount -t ext4 /dev/loop3 /mnt/c
mount -t btrfs /dev/vdh /mnt/h
mkdir /mnt/a/x; mount --bind /mnt/a/x /mnt/i
echo E:ID_SERIAL=GAUNT >/run/udev/data/b$(cat /sys/block/vda/dev)
printf 'E:DM_UUID=LVM\\nE:DM_NAME=named-by-udev\\n' >/run/udev/data/b$(cat /sys/block/dm-0/dev)";

/// Freezes /mnt/d first and then a file system that cannot be frozen. Asserts the error, and that
/// nothing stays frozen.
fn assert_freeze_fails(client: &mut Client, guest: &mut Guest, which: &[&str], error: &str) {
    let which = json!({ "mountpoints": which });
    let refused = client.try_call("guest-fsfreeze-freeze-list", which);
    assert_eq!(refused.expect_err("one cannot be frozen").desc, error);
    assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
    // This write hangs if the disk is still frozen.
    let write = "echo x >/mnt/d/written; sync /mnt/d/written";
    guest.shell().run(write);
}

#[test]
fn disks_of_every_kind_in_a_guest_equal_those_of_qemu_ga() {
    let mut checks = Checks::new("disks in a guest");
    let scratch = Scratch::new();
    let image = |name: &str, fs| {
        let path = scratch.join(name);
        disk::raw(&path, fs);
        path
    };
    let (dmsetup, mdadm) = (program("dmsetup", "dmsetup"), program("mdadm", "mdadm"));
    let archive = Cpio::new().program(&dmsetup).program(&mdadm);
    let modules = Modules::of(&["ata_piix", "raid1", "btrfs"]);
    let four = scratch.join("four.raw");
    four_partitions(&four);
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&modules.put(archive).finish())
        .reference()
        // With multipath qemu-ga does not recognize an NVMe disk.
        .kernel("nvme_core.multipath=N")
        .disk(&image("ext4.raw", Fs::Ext4))
        .disk(&image("xfs.raw", Fs::Xfs))
        .disk_as(&image("c.raw", Fs::None), "virtio-blk-pci,serial=C")
        .disk(&image("d.raw", Fs::None))
        .disk(&four)
        .disk(&image("f.raw", Fs::None))
        .disk(&image("g.raw", Fs::None))
        .disk(&image("btrfs.raw", Fs::Btrfs))
        .qemu(&["-device", "virtio-scsi-pci,id=scsi"])
        .disk_as(
            &image("0-0.raw", Fs::Ext4),
            "scsi-hd,bus=scsi.0,scsi-id=0,lun=0,serial=zero",
        )
        .disk_as(
            &image("3-0.raw", Fs::Ext4),
            "scsi-hd,bus=scsi.0,scsi-id=3,lun=0,serial=three",
        )
        .disk_as(
            &image("3-2.raw", Fs::Ext4),
            // With discard_granularity=0 the disk does not support trim.
            "scsi-hd,bus=scsi.0,scsi-id=3,lun=2,serial=two,wwn=0x5000c50015ea71ac,discard_granularity=0",
        )
        .qemu(&["-device", "piix3-ide,id=piix"])
        .disk_as(&image("ide0.raw", Fs::Ext4), "ide-hd,bus=piix.0,unit=1")
        .disk_as(&image("ide1.raw", Fs::None), "ide-hd,bus=piix.1,unit=0")
        .disk_as(&image("sata2.raw", Fs::Ext4), "ide-hd,bus=ide.2")
        .disk_as(
            &image("sata4.raw", Fs::None),
            "ide-hd,bus=ide.4,serial=SATA4",
        )
        .disk_as(&image("nvme.raw", Fs::Ext4), "nvme,serial=NVME")
        .boot();
    guest.wait_shell();
    let shell = guest.shell();
    for line in SET_UP.lines() {
        let (dm, md) = (dmsetup.display(), mdadm.display());
        shell.run(&format!(
            "DM_DISABLE_UDEV=1 DM={dm} MD={md}; export DM_DISABLE_UDEV; {line}"
        ));
    }
    // The kernel names SCSI disks in the order in which it finds them. Each is mounted by its name.
    shell.run("for d in /sys/block/sd*; do n=${d##*/}; mkdir -p /mnt/$n; mount -t ext4 /dev/$n /mnt/$n; done; true");
    shell.run("mount -t ext4 /dev/nvme0n1 /mnt/d");
    let mut ours = guest.client();
    let mut theirs = guest.reference();

    for command in COMMANDS {
        checks.run(command, || {
            let row = request(command, &json!({}));
            assert_same_reply(&mut ours, &mut theirs, &row);
            let count = ours.get(command).as_array().map_or(0, Vec::len);
            format!("{count} elements")
        });
    }
    checks.run(
        "used and total bytes of each file system equal qemu-ga's",
        || {
            // The comparison above ignores these numbers, which change on a machine in use. Nothing writes
            // to the disks of this guest.
            let sizes = |client: &mut Client| -> BTreeMap<String, [u64; 3]> {
                let list = client.get("guest-get-fsinfo");
                let list = list.as_array().expect("a list").iter();
                list.map(|fs| {
                    let mountpoint = fs["mountpoint"].as_str().expect("a path").to_owned();
                    let bytes = ["used-bytes", "total-bytes", "total-bytes-privileged"]
                        .map(|name| fs[name].as_u64().expect(name));
                    (mountpoint, bytes)
                })
                .collect()
            };
            let (here, there) = (sizes(&mut ours), sizes(&mut theirs));
            assert_eq!(here, there);
            let kept = here.values().filter(|[_, total, all]| total < all).count();
            assert!(kept > 2, "no blocks are reserved for root: {here:?}");
            format!(
                "{} file systems, {kept} with blocks reserved for root",
                here.len()
            )
        },
    );
    checks.run("each disk has its address, serial and dependencies", || {
        let disks = ours.get("guest-get-disks");
        let disks = disks.as_array().expect("a list");
        let found: BTreeMap<&str, &Value> = disks
            .iter()
            .map(|disk| (disk["name"].as_str().expect("a name"), disk))
            .collect();
        let mut addresses: Vec<String> = disks
            .iter()
            .filter_map(|disk| disk.get("address"))
            .filter(|address| address["bus-type"] != "virtio")
            .map(|address| {
                let [kind, bus, target, unit] =
                    ["bus-type", "bus", "target", "unit"].map(|member| address[member].to_string());
                format!("{kind} {bus}:{target}:{unit}").replace('"', "")
            })
            .collect();
        addresses.sort();
        let expected = [
            "ide 0:0:1",
            "ide 1:0:0",
            "nvme 0:0:0",
            "sata 0:0:2",
            "sata 0:0:4",
            "scsi 0:0:0",
            "scsi 0:3:0",
            "scsi 0:3:2",
        ];
        assert_eq!(addresses, expected);
        let serials: Vec<&str> = disks
            .iter()
            .filter_map(|disk| disk["address"]["serial"].as_str())
            .collect();
        for known in [
            "GAUNT",
            "C",
            "QEMU_NVMe_Ctrl_NVME_1",
            "35000c50015ea71ac",
            "QEMU_HARDDISK_SATA4",
            "0QEMU_QEMU_HARDDISK_three",
        ] {
            assert!(serials.contains(&known), "no {known} among {serials:?}");
        }
        assert_eq!(found["/dev/dm-0"]["alias"], "named-by-udev");
        assert_eq!(found["/dev/dm-1"]["alias"], "luks-x");
        assert_eq!(
            found["/dev/dm-0"]["dependencies"],
            json!(["/dev/vdd", "/dev/vdc"])
        );
        assert_eq!(found["/dev/dm-1"]["dependencies"], json!(["/dev/dm-0"]));
        assert_eq!(found["/dev/vde3"]["dependencies"], json!(["/dev/vde"]));
        assert!(found.contains_key("/dev/loop3") && !found.contains_key("/dev/loop0"));
        let names: Vec<&str> = disks
            .iter()
            .filter_map(|disk| disk["name"].as_str())
            .collect();
        let at = |name| {
            names
                .iter()
                .position(|other| *other == name)
                .expect("it is listed")
        };
        assert!(at("/dev/vde1") < at("/dev/vde") && at("/dev/vde4") < at("/dev/vde"));
        let smart = &found["/dev/nvme0n1"]["smart"];
        assert_eq!(smart["type"], "nvme");
        assert!(smart["temperature"].as_u64() > Some(200), "{smart}");
        assert_eq!(smart.as_object().map(|members| members.len()), Some(26));
        format!("{} disks and partitions", disks.len())
    });
    checks.run("each file system names its disks", || {
        let list = ours.get("guest-get-fsinfo");
        let nodes = |mountpoint: &str| -> Vec<String> {
            let list = list.as_array().expect("a list").iter();
            let mut at = list.filter(|fs| fs["mountpoint"] == mountpoint);
            let fs = at
                .next()
                .unwrap_or_else(|| panic!("{mountpoint} is not listed"));
            let disks = fs["disk"].clone();
            assert!(at.next().is_none(), "{mountpoint} is listed twice");
            let disks = disks.as_array().expect("a list").iter();
            disks
                .map(|disk| disk["dev"].as_str().expect("a node").to_owned())
                .collect()
        };
        assert_eq!(nodes("/mnt/a"), ["/dev/vdd", "/dev/vdc"]);
        assert_eq!(nodes("/mnt/b"), ["/dev/vdg", "/dev/vdf"]);
        assert!(nodes("/mnt/c").is_empty());
        assert_eq!(nodes("/mnt/d"), ["/dev/nvme0n1"]);
        assert_eq!(nodes("/mnt/h"), ["/dev/vdh"]);
        let bound = list.as_array().expect("a list").iter();
        assert!(!bound.clone().any(|fs| fs["mountpoint"] == "/mnt/i"));
        format!("{} file systems", bound.count())
    });
    checks.run(
        "a trim names the file systems that do not support it",
        || {
            let mut outcomes = [&mut ours, &mut theirs].map(|client| {
                let reply = client.get("guest-fstrim");
                let paths = reply["paths"].as_array().expect("a list").iter();
                let by_path: BTreeMap<String, Value> = paths
                    .map(|path| {
                        let name = path["path"].as_str().expect("a path").to_owned();
                        (name, path["error"].clone())
                    })
                    .collect();
                by_path
            });
            let [here, there] = &mut outcomes;
            assert_eq!(here, there);
            let refused = here.values().filter(|error| !error.is_null());
            let refused: Vec<&Value> = refused.collect();
            assert!(refused.contains(&&json!("trim not supported")), "{here:?}");
            assert!(refused.len() < here.len(), "nothing was trimmed: {here:?}");
            format!("{} of {} not trimmed", refused.len(), here.len())
        },
    );
    checks.run("a failed freeze names the file system and thaws the others", || {
        // The disk of /mnt/e fails after it was mounted.
        let shell = guest.shell();
        let dm = format!("DM_DISABLE_UDEV=1 {}", dmsetup.display());
        shell.run(&format!(
            "umount /data; n=$(cat /sys/block/vda/size); \
             echo 0 $n linear /dev/vda 0 | {dm} create bad; mount -t ext4 /dev/mapper/bad /mnt/e; \
             umount /mnt/d; mount -t ext4 /dev/nvme0n1 /mnt/d; \
             echo 0 $n error | {dm} reload bad; {dm} suspend --nolockfs --noflush bad; {dm} resume bad"
        ));
        shell.run("(echo x >/mnt/e/x; sync) 2>/dev/null; true");
        let error = "failed to freeze /mnt/e: Input/output error";
        for client in [&mut ours, &mut theirs] {
            assert_freeze_fails(client, &mut guest, &["/mnt/d", "/mnt/e"], error);
        }
        guest.shell().run("umount /mnt/e");
        error.into()
    });
    checks.run("a freeze that fails half-way thaws what it froze", || {
        // The order is the reverse of mounting: first /mnt/d, then /cover/sub, which a later mount
        // hides.
        for client in [&mut ours, &mut theirs] {
            client.get("guest-fsfreeze-thaw");
        }
        let shell = guest.shell();
        shell.run(
            "umount /mnt/e 2>/dev/null; umount /mnt/d /mnt/c; mkdir -p /cover/sub; mount -t ext4 /dev/loop3 /cover/sub; \
             mount -t ext4 /dev/nvme0n1 /mnt/d; mount -t tmpfs none /cover",
        );
        let which = json!({ "mountpoints": ["/mnt/d", "/cover/sub"] });
        let error = "failed to open /cover/sub: No such file or directory";
        for client in [&mut ours, &mut theirs] {
            assert_freeze_fails(client, &mut guest, &["/mnt/d", "/cover/sub"], error);
        }
        guest.shell().run("umount /cover");
        let [here, there] = [&mut ours, &mut theirs].map(|client| {
            let frozen = client.call("guest-fsfreeze-freeze-list", which.clone());
            (frozen, client.get("guest-fsfreeze-thaw"))
        });
        assert_eq!(here, (json!(2), json!(2)));
        assert_eq!(here, there);
        "failed to open /cover/sub; then 2 frozen and thawed".into()
    });
    checks.finish();
}
