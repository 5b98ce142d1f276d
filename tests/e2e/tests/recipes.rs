//! The recipes in `image/recipes/`, as far as Debian has the tools: each is built, and booted or inspected.
//!
//! Guests: the kernel of the images with an initramfs of initramfs-tools and of dracut, and a small root
//! disk with busybox init and without an agent; Debian with the system extension; and Debian of mkosi.
//! `image/README.md` says which recipes are not tried. The Debian packages are tested in `package`. Needs
//! QEMU, the images, and the builders that `image/setup` installs.
//!
//! mkosi downloads and installs Debian, which takes two minutes. That tree stays in `image/cache/mkosi`;
//! later runs begin with a copy of it. Only root can run mkosi.
//!
//! The tests print by how many bytes each image grows: `image/README.md` has these numbers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gaunt_e2e::base64;
use gaunt_e2e::client::Client;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::debian;
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::process::{program, run};
use gaunt_e2e::scratch::{Scratch, is_root};
use gaunt_e2e::{agent_binary, disk, top, wait};
use serde_json::{Value, json};

/// Time limit for the build of an image.
const BUILD: Duration = Duration::from_secs(120);

/// Time limit for the build of an image whose packages are downloaded.
const DOWNLOAD: Duration = Duration::from_secs(540);

/// Returns a file of the recipes.
fn recipe(name: &str) -> PathBuf {
    top().join("image/recipes").join(name)
}

/// Returns the version of the images' kernel.
fn kernel_release() -> String {
    let path = top().join("image/cache/kernel/release");
    let release = fs::read_to_string(&path);
    let release = release.unwrap_or_else(|e| panic!("{}: {e}: run `make image`", path.display()));
    release.trim().to_owned()
}

/// Makes a directory of kernel modules with their list of dependencies, which the package lacks. Returns
/// the directory above `lib`.
fn modules(scratch: &Scratch) -> PathBuf {
    let root = scratch.join("modules");
    fs::create_dir_all(root.join("lib")).expect("a directory");
    let from = top().join("image/cache/kernel/lib/modules");
    // Hard links fail when the cache is on another file system.
    let to = root.join("lib");
    let copy =
        "cp -al \"$1\" \"$2\" 2>/dev/null || { rm -rf \"$2/modules\"; cp -a \"$1\" \"$2\"; }";
    run(
        Command::new("sh")
            .args(["-c", copy, "sh"])
            .args([&from, &to]),
        BUILD,
    );
    run(
        Command::new(program("depmod", "kmod"))
            .arg("-b")
            .arg(&root)
            .arg(kernel_release()),
        BUILD,
    );
    root
}

/// Makes a root disk with busybox init, and with a file that stands for a service of its own.
fn root_disk(scratch: &Scratch, service: Option<&str>) -> PathBuf {
    let directory = scratch.join("root");
    let _ = fs::remove_dir_all(&directory);
    for name in ["bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(directory.join(name)).expect("a directory");
    }
    let busybox = program("busybox", "busybox-static");
    fs::copy(busybox, directory.join("bin/busybox")).expect("a copy of busybox");
    symlink("../bin/busybox", directory.join("sbin/init")).expect("a link");
    fs::write(
        directory.join("etc/inittab"),
        "::sysinit:/bin/busybox true\n",
    )
    .expect("a file");
    fs::write(directory.join("etc/os-release"), "ID=root\n").expect("a file");
    if let Some(service) = service {
        let path = directory.join(service);
        fs::create_dir_all(path.parent().expect("a directory above it")).expect("a directory");
        fs::write(path, "").expect("a file");
    }
    let path = scratch.join("root.raw");
    disk::ext4_of(&path, &directory);
    path
}

/// Returns the bytes of a file, or of all files in a directory.
fn size_of(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if metadata.is_dir() {
        let entries = fs::read_dir(path).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        return paths.map(|path| size_of(&path)).sum();
    }
    if metadata.is_file() {
        metadata.len()
    } else {
        0
    }
}

/// Prints by how many bytes an image with the agent is larger than the same without it.
fn print_growth(image: &str, with: &Path, without: &Path) {
    let growth = size_of(with) - size_of(without);
    eprintln!("{image}: {growth} bytes more");
}

/// Boots an initramfs with a root disk.
fn boot(initramfs: &Path, root: &Path) -> Guest {
    Machine::new(Image::Busybox)
        .initramfs(initramfs)
        .kernel("root=/dev/vda")
        .kernel("rootfstype=ext4")
        .kernel("rw")
        .disk(root)
        .boot()
}

/// Boots an initramfs. The agent in it must answer, and go along to a root without a service of its own.
fn goes_along_to_the_root(scratch: &Scratch, initramfs: &Path) {
    let mut guest = boot(initramfs, &root_disk(scratch, None));
    let mut client = guest.client();
    wait::expect("the agent on the root disk", wait::BOOT, || {
        client.get("guest-get-osinfo")["id"] == "root"
    });
    let list = client.get("guest-get-fsinfo");
    assert_eq!(list[0]["mountpoint"], "/", "{list}");
    assert_eq!(list[0]["name"], "vda", "{list}");
}

/// Boots an initramfs. The agent in it must answer, and end before a root with a service of its own.
fn ends_before_the_root(scratch: &Scratch, initramfs: &Path, service: &str) {
    let mut guest = boot(initramfs, &root_disk(scratch, Some(service)));
    let mut client = guest.client();
    wait::expect("the end of the agent", wait::BOOT, || {
        client.sync(wait::SETTLE).is_none()
    });
}

#[test]
fn kernel_options_exist_and_commands_are_real() {
    let text = fs::read_to_string(recipe("kernel.config")).expect("the fragment");
    let release = kernel_release();
    let config = top().join(format!("image/cache/kernel/boot/config-{release}"));
    let config = fs::read_to_string(&config).expect("the kernel's configuration");
    let known: BTreeSet<&str> = config
        .lines()
        .filter_map(|line| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.split(['=', ' ']).next()
        })
        .filter(|name| name.starts_with("CONFIG_"))
        .collect();
    let mut count = 0;
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let name = line
            .strip_suffix("=y")
            .unwrap_or_else(|| panic!("{line}: not NAME=y"));
        assert!(known.contains(name), "{name}: no option of {release}");
        count += 1;
    }
    assert!(count > 30, "{count} options");
    let commands = run(
        Command::new(agent_binary()).arg("--block-rpcs=help"),
        wait::ANSWER,
    );
    let commands: BTreeSet<&str> = commands.lines().collect();
    for word in text.split([' ', ',', ';', ':', '\n']) {
        if word.starts_with("guest-") {
            assert!(commands.contains(word), "{word}: no command");
        }
    }
}

#[test]
fn an_initramfs_of_initramfs_tools_starts_the_agent() {
    let scratch = Scratch::new();
    let modules = modules(&scratch);
    let settings = scratch.join("settings");
    run(
        Command::new("cp")
            .arg("-a")
            .args([&recipe("initramfs-tools"), &settings]),
        wait::ANSWER,
    );
    fs::create_dir(settings.join("conf.d")).expect("a directory");
    fs::write(
        settings.join("initramfs.conf"),
        "MODULES=list\nBUSYBOX=n\nKEYMAP=n\nCOMPRESS=gzip\nDEVICE=\nNFSROOT=auto\nRUNSIZE=10%\nFSTYPE=ext4\n",
    )
    .expect("a file");
    fs::write(settings.join("modules"), "virtio_blk\next4\n").expect("a file");
    // It looks for modules in /lib/modules and for the kernel's configuration in /boot alone.
    let build = "mkdir -p /lib/modules && mount -t tmpfs none /lib/modules && \
         mkdir \"/lib/modules/$5\" && mount --bind \"$1/lib/modules/$5\" \"/lib/modules/$5\" && \
         mount --bind \"$2\" /boot && exec mkinitramfs -d \"$3\" -o \"$4\" \"$5\"";
    let make = |name: &str| {
        let output = scratch.join(name);
        let mut command = Command::new(program("unshare", "util-linux"));
        command.arg(if is_root() { "-m" } else { "-rm" });
        command.args(["sh", "-c", build, "sh"]);
        let boot = top().join("image/cache/kernel/boot");
        command.args([&modules, &boot, &settings, &output]);
        command.arg(kernel_release());
        command.env("GAUNT", agent_binary());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        program("mkinitramfs", "initramfs-tools-core");
        run(&mut command, BUILD);
        output
    };
    let output = make("initramfs");
    for part in ["hooks", "scripts"] {
        fs::remove_dir_all(settings.join(part)).expect("the recipe");
    }
    print_growth("initramfs-tools", &output, &make("without"));
    goes_along_to_the_root(&scratch, &output);
    ends_before_the_root(&scratch, &output, "etc/init.d/qemu-guest-agent");
}

#[test]
fn an_initramfs_of_dracut_starts_the_agent() {
    let scratch = Scratch::new();
    let modules = modules(&scratch);
    // dracut finds its modules beside itself only with --local.
    let own = scratch.join("dracut");
    let dracut = program("dracut", "dracut-core");
    run(
        Command::new("cp")
            .arg("-a")
            .args([Path::new("/usr/lib/dracut"), &own]),
        wait::ANSWER,
    );
    run(
        Command::new("cp")
            .arg("-a")
            .args([&recipe("dracut/90gaunt"), &own.join("modules.d/90gaunt")]),
        wait::ANSWER,
    );
    run(
        Command::new("cp")
            .arg("-L")
            .args([&dracut, &own.join("dracut.sh")]),
        wait::ANSWER,
    );
    let release = kernel_release();
    let make = |name: &str, parts: &str| {
        let output = scratch.join(name);
        run(
            Command::new(own.join("dracut.sh"))
                .args(["--local", "--no-hostonly", "--no-early-microcode", "--gzip"])
                .args(["--modules", parts])
                .args(["--add-drivers", "virtio_blk ext4"])
                .args(["--kver", &release, "--kmoddir"])
                .arg(modules.join("lib/modules").join(&release))
                .arg("--tmpdir")
                .arg(scratch.path())
                .arg(&output)
                .env("GAUNT", agent_binary()),
            BUILD,
        );
        output
    };
    let output = make("initramfs", "base rootfs-block udev-rules gaunt");
    let without = make("without", "base rootfs-block udev-rules");
    print_growth("dracut", &output, &without);
    goes_along_to_the_root(&scratch, &output);
    let unit = "usr/lib/systemd/system/qemu-guest-agent.service";
    ends_before_the_root(&scratch, &output, unit);
}

#[test]
fn rpm_packages_replace_qemu_guest_agent() {
    let scratch = Scratch::new();
    run(
        Command::new(program("rpmbuild", "rpm"))
            .current_dir(top())
            .args(["-bb", "--build-in-place", "--define"])
            .arg(format!("_topdir {}", scratch.path().display()))
            .arg("--define")
            .arg(format!("agent {}", agent_binary().display()))
            .arg(recipe("rpm/gaunt.spec")),
        BUILD,
    );
    let packages = scratch.join("RPMS/x86_64");
    eprintln!("RPM: packages of {} bytes", size_of(&packages));
    let query = |name: &str, what: &[&str]| -> Vec<String> {
        let entries = fs::read_dir(&packages).expect("packages");
        let path = entries
            .map(|entry| entry.expect("an entry").path())
            .find(|path| {
                let file = path.file_name().and_then(|file| file.to_str());
                file.is_some_and(|file| file.starts_with(&format!("{name}-0")))
            })
            .unwrap_or_else(|| panic!("no package {name}"));
        let said = run(
            Command::new("rpm")
                .args(["-qp", "--nosignature"])
                .args(what)
                .arg(path),
            wait::ANSWER,
        );
        said.lines().map(|line| line.trim().to_owned()).collect()
    };
    let files = query("gaunt", &["--list"]);
    assert!(files.contains(&"/usr/bin/gaunt".to_owned()), "{files:?}");
    let needs: Vec<String> = query("gaunt", &["--requires"])
        .into_iter()
        .filter(|need| !need.starts_with("rpmlib("))
        .collect();
    assert_eq!(needs, [""; 0], "the program needs nothing");
    let service = "gaunt-qemu-guest-agent";
    let files = query(service, &["--list"]);
    for path in [
        "/usr/bin/qemu-ga",
        "/usr/lib/systemd/system/qemu-guest-agent.service",
        "/usr/lib/udev/rules.d/99-qemu-guest-agent.rules",
    ] {
        assert!(files.contains(&path.to_owned()), "{path}: {files:?}");
    }
    let provides = query(service, &["--provides"]);
    let agent = "qemu-guest-agent = 2:11.1".to_owned();
    assert!(provides.contains(&agent), "{provides:?}");
    assert_eq!(query(service, &["--conflicts"]), ["qemu-guest-agent"]);
    assert_eq!(
        query(service, &["--configfiles"])[0],
        "/etc/sysconfig/qemu-ga"
    );
}

#[test]
fn a_system_extension_brings_the_service() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    program("mksquashfs", "squashfs-tools");
    run(
        Command::new(recipe("sysext/build"))
            .env("AGENT", agent_binary())
            .env("OUT", tree.join("var/lib/extensions")),
        BUILD,
    );
    let extension = size_of(&tree.join("var/lib/extensions"));
    eprintln!("system extension: {extension} bytes");
    debian::disk(scratch.path(), "root.qcow2");
    let modules = Modules::of(&["loop", "squashfs", "overlay"]).put(Cpio::new());
    let mut guest = debian::machine(&scratch.join("root.qcow2"))
        .overlay(&debian::overlay(Some(&tree)))
        .overlay(&modules.finish())
        .boot();
    guest.wait_shell();
    let start =
        "systemd-sysext merge && systemctl daemon-reload && systemctl start qemu-guest-agent";
    guest.shell().run(start);
    let mut client = guest.client();
    assert_eq!(client.get("guest-get-osinfo")["id"], "debian");
    let exe = "readlink /proc/$(systemctl show -P MainPID qemu-guest-agent)/exe";
    assert_eq!(guest.shell().run(exe), "/usr/bin/gaunt");
    let extension = guest.shell().run("systemd-sysext status --no-legend");
    assert!(
        extension.contains("/usr") && extension.contains("gaunt"),
        "{extension}"
    );
    let unit = guest.shell().run("systemctl cat qemu-guest-agent");
    assert!(
        !unit.contains("BindsTo") && !unit.contains("udev"),
        "{unit}"
    );
}

/// Returns the Debian release of this machine, and the mirror that its packages come from.
fn debian_source() -> (String, String) {
    let script = ". /etc/os-release; echo \"$VERSION_CODENAME\"; apt-get indextargets \
         --format '$(REPO_URI)' 'Created-By: Packages' \"Codename: $VERSION_CODENAME\" | head -n 1";
    let lines = run(Command::new("sh").args(["-c", script]), wait::ANSWER);
    let (release, mirror) = lines.split_once('\n').expect("two lines");
    assert!(
        !mirror.is_empty(),
        "no package source known: run `apt-get update` first"
    );
    (release.to_owned(), mirror.trim_end().to_owned())
}

/// Runs mkosi in a directory with `mkosi.conf` and `mkosi.extra`. Returns the tree of the image.
fn mkosi(project: &Path) -> PathBuf {
    let version = Command::new(program("mkosi", "mkosi"))
        .arg("--version")
        .output();
    let version = String::from_utf8(version.expect("it starts").stdout).expect("text");
    assert!(
        version.starts_with("mkosi 14"),
        "{version}: the options are those of mkosi 14"
    );
    let (release, mirror) = debian_source();
    let configuration = fs::read_to_string(project.join("mkosi.conf")).expect("a file");
    let made_of = format!("{version}{release}\n{mirror}\n{configuration}");
    let cache = top().join("image/cache/mkosi");
    let tree = project.join("image.cache-pre-inst");
    let is_cached = fs::read_to_string(cache.join("made-of")).is_ok_and(|kept| kept == made_of);
    if is_cached {
        symlink(cache.join("tree"), &tree).expect("a link");
        // mkosi 14 ignores its cache if that of the build script is missing, also if there is no script.
        fs::write(project.join("image.cache-pre-dev"), "").expect("a file");
    }
    run(
        Command::new("mkosi")
            .current_dir(project)
            .args(["--release", &release, "--mirror", &mirror])
            .args(["--output", "image", "--incremental"])
            // Where systemd is not the init, it cannot make a unit for each program in the image.
            .args(["--nspawn-keep-unit", "build"]),
        DOWNLOAD,
    );
    if !is_cached {
        let new = top().join("image/cache/mkosi.new");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).expect("a directory");
        // The cache may be on another file system.
        run(Command::new("mv").args([&tree, &new.join("tree")]), BUILD);
        fs::write(new.join("made-of"), made_of).expect("a file");
        let _ = fs::remove_dir_all(&cache);
        // Renamed last: an interrupted run must not look complete.
        fs::rename(&new, &cache).expect("the cache");
    }
    project.join("image")
}

/// Runs a shell script in a guest through its agent. Returns its output.
fn shell(client: &mut Client, script: &str) -> String {
    let arguments = json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": "merged" });
    let pid = client.call("guest-exec", arguments)["pid"].clone();
    let mut status = Value::Null;
    wait::expect("the end of a script", wait::ANSWER, || {
        status = client.call("guest-exec-status", json!({ "pid": pid }));
        status["exited"] == true
    });
    assert_eq!(status["exitcode"], 0, "{script}: {status}");
    let said = base64::decode(status["out-data"].as_str().expect("a string"));
    let said = String::from_utf8(said).expect("text");
    said.trim_end().to_owned()
}

#[test]
fn an_image_of_mkosi_starts_the_agent_by_udev() {
    if !is_root() {
        eprintln!("SKIP: mkosi builds an image only as root");
        return;
    }
    let scratch = Scratch::new();
    let project = scratch.join("project");
    fs::create_dir(&project).expect("a directory");
    fs::copy(recipe("mkosi/mkosi.conf"), project.join("mkosi.conf")).expect("a copy");
    run(
        Command::new("make")
            .arg("-C")
            .arg(top())
            .arg("install")
            .arg(format!("DESTDIR={}", project.join("mkosi.extra").display())),
        wait::ANSWER,
    );
    let installed = size_of(&project.join("mkosi.extra"));
    eprintln!("mkosi: {installed} bytes more");
    let disk = scratch.join("root.raw");
    disk::ext4_of(&disk, &mkosi(&project));
    let mut guest = debian::machine(&disk).boot();
    let mut client = guest.client();
    assert_eq!(client.get("guest-get-osinfo")["id"], "debian");
    let mut said = |script: &str| shell(&mut client, script);
    assert_eq!(said("readlink /proc/$PPID/exe"), "/usr/bin/gaunt");
    assert_eq!(said("systemctl is-active qemu-guest-agent"), "active");
    // Only device units want the service, because the rule of udev names it.
    let wanted = said("systemctl show -P WantedBy qemu-guest-agent");
    let is_device = |name: &str| name.trim_matches('"').ends_with(".device");
    assert!(wanted.split(' ').all(is_device), "{wanted}");
    let port = said("udevadm info -q property -n virtio-ports/org.qemu.guest_agent.0");
    let wants = "SYSTEMD_WANTS=qemu-guest-agent.service";
    assert!(port.lines().any(|line| line == wants), "{port}");
}
