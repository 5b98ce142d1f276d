//! A tour of a guest whose only program is gaunt: prints requests and replies.
//!
//! Boots the bare image with an ext4 disk, sends requests as a host does, powers the guest off, and
//! prints the sizes of kernel, image and agent. With `--attach` (`make run ATTACH=1`) the guest stays up
//! for a person instead, until Ctrl-C or a shutdown request.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use gaunt_e2e::client::{Client, parse, request};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine, Processor};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::{agent_binary, image_file, top, wait};
use serde_json::{Value, json};

const TITLE: &str = "\x1b[1m";
const ASKED: &str = "\x1b[36m";
const SAID: &str = "\x1b[32m";
const REFUSED: &str = "\x1b[33m";
const NOTE: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Longest part of a reply that is printed, in bytes.
const SHOWN: usize = 300;

/// The printer. It uses colours on a terminal only.
struct Tour {
    coloured: bool,
}

impl Tour {
    fn print(&self, colour: &str, mark: &str, text: &str) {
        if self.coloured {
            println!("{colour}{mark}{text}{PLAIN}");
        } else {
            println!("{mark}{text}");
        }
    }

    fn title(&self, text: &str) {
        println!();
        self.print(TITLE, "", text);
    }

    fn note(&self, text: &str) {
        self.print(NOTE, "   ", text);
    }

    /// Sends a request, prints it and its reply, and returns the value.
    fn ask(&self, client: &mut Client, command: &str, arguments: Value) -> Value {
        let text = request(command, &arguments);
        self.print(ASKED, " > ", text.trim_end());
        let start = Instant::now();
        client.send(text);
        let line = client.line(wait::ANSWER).expect("a reply");
        let took = start.elapsed().as_secs_f64() * 1000.0;
        let mut shown = String::from_utf8_lossy(&line).into_owned();
        let length = shown.len();
        if length > SHOWN {
            // Replies are ASCII.
            shown.truncate(SHOWN);
            shown.push_str(&format!(" … ({length} bytes)"));
        }
        let reply = parse(&line);
        let colour = if reply.get("error").is_some() {
            REFUSED
        } else {
            SAID
        };
        self.print(colour, " < ", &format!("{shown}  ({took:.1} ms)"));
        reply["return"].clone()
    }
}

fn main() {
    let attach = std::env::args().any(|word| word == "--attach");
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let tour = Tour { coloured };
    tour.title("A guest whose only program is gaunt");
    // Ctrl-C ends the attached guest without cleaning up. So its files are in `target`, where
    // `make clean` removes them.
    let scratch = (!attach).then(Scratch::new);
    let directory = match &scratch {
        Some(scratch) => scratch.path().to_owned(),
        None => top().join("target/run"),
    };
    std::fs::create_dir_all(&directory).expect("a directory");
    let disk = directory.join("disk.raw");
    disk::raw(&disk, Fs::Ext4);
    let start = Instant::now();
    let machine = Machine::new(Image::Bare).disk(&disk).directory(&directory);
    let mut guest = machine.boot();
    tour.note("QEMU started; waiting for the agent on its virtio port");
    let client = guest.client();
    tour.note(&format!(
        "it answers {:.1} s after power-on",
        start.elapsed().as_secs_f64()
    ));
    if attach {
        // The port takes one client at a time.
        drop(client);
        serve(&tour, &mut guest);
        return;
    }
    visit(&tour, &mut guest, client, &disk);
    print_sizes(&tour);
}

fn visit(tour: &Tour, guest: &mut Guest, mut client: Client, disk: &Path) {
    tour.title("Synchronize");
    tour.ask(&mut client, "guest-sync", json!({ "id": 2026 }));
    tour.title("System");
    let info = tour.ask(&mut client, "guest-info", json!({}));
    let count = info["supported_commands"].as_array().map_or(0, Vec::len);
    tour.note(&format!("{count} commands"));
    tour.ask(&mut client, "guest-get-osinfo", json!({}));
    tour.ask(&mut client, "guest-get-host-name", json!({}));
    tour.title("Hardware");
    tour.ask(&mut client, "guest-get-fsinfo", json!({}));
    tour.ask(&mut client, "guest-network-get-interfaces", json!({}));
    tour.ask(&mut client, "guest-get-vcpus", json!({}));
    tour.title("Clock");
    tour.ask(&mut client, "guest-get-time", json!({}));
    tour.title("Freeze for a backup");
    tour.ask(&mut client, "guest-fsfreeze-freeze", json!({}));
    tour.ask(&mut client, "guest-fsfreeze-status", json!({}));
    let rest = if disk::ext4_is_clean(disk) {
        "consistent, ready to be copied"
    } else {
        "NOT consistent"
    };
    tour.note(&format!("the disk image on the host: {rest}"));
    tour.ask(&mut client, "guest-get-osinfo", json!({}));
    tour.ask(&mut client, "guest-fsfreeze-thaw", json!({}));
    tour.title("Trim");
    tour.ask(&mut client, "guest-fstrim", json!({}));
    tour.title("Errors");
    tour.ask(&mut client, "guest-make-coffee", json!({ "cups": 2 }));
    tour.ask(&mut client, "guest-sync", json!({ "id": "two" }));

    tour.title("Power off");
    let text = request("guest-shutdown", &json!({}));
    tour.print(ASKED, " > ", text.trim_end());
    let start = Instant::now();
    client.send(text);
    let reason = guest.shutdown_reason();
    let status = guest.wait_end(wait::ANSWER);
    let took = start.elapsed().as_secs_f64();
    tour.note(&format!("QEMU: {reason}, {status}, {took:.1} s later"));
    assert!(
        reason == "guest-shutdown" && status.success(),
        "not a clean power-off"
    );
    assert!(disk::ext4_is_clean(disk), "the disk was not unmounted");
    tour.note("the disk was unmounted and needs no recovery");
}

fn print_sizes(tour: &Tour) {
    tour.title("Sizes");
    let image = |name: &str| image_file(&format!("{}{name}", Processor::usual().images()));
    for (what, path) in [
        ("kernel", image("vmlinuz")),
        (
            "image: modules and agent, compressed",
            image("bare.cpio.gz"),
        ),
        ("agent", agent_binary()),
    ] {
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        tour.note(&format!("{bytes:>12} bytes  {what}"));
    }
}

/// Prints how to reach the guest, and waits until it ends.
fn serve(tour: &Tour, guest: &mut Guest) {
    let socket = guest.agent_socket();
    let socket = socket.display();
    tour.title("The guest stays up. Its agent's port is this socket:");
    println!("   {socket}");
    tour.title("A line to talk to it:");
    let ask = r#"{"execute":"guest-get-osinfo"}"#;
    let socat = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .any(|directory| Path::new(directory).join("socat").exists());
    if socat {
        println!("   echo '{ask}' | socat -t2 - UNIX-CONNECT:{socket}");
    } else {
        // A minimal Debian system has Perl with these modules.
        println!(
            "   perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(shift) or die $!; \
             print $s shift . \"\\n\"; print scalar <$s>' {socket} '{ask}'"
        );
    }
    println!("\nCtrl-C ends it, and so does guest-shutdown.");
    guest.wait_without_limit();
    tour.note("The guest is gone.");
}
