//! Clock, processors, memory blocks, suspend and routes: replies compared with qemu-ga, effects in
//! guests.
//!
//! Guests: the busybox image with qemu-ga, hot-pluggable processors and memory; one without IPv6; and
//! several with a swap disk, which are suspended. Needs QEMU, the images and qemu-ga. On this machine
//! only unprivileged agents run, whose requests all fail or only read.

use std::path::Path;
use std::time::Instant;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::compare::{assert_same_reply, compare, lines};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::{Value, json};

#[test]
fn replies_without_privileges_equal_those_of_qemu_ga() {
    compare(
        "hardware",
        &lines(&[
            r#"{"execute":"guest-set-time","arguments":{"time":1700000000000000000}}"#,
            r#"{"execute":"guest-set-time","arguments":{"time":0}}"#,
            r#"{"execute":"guest-set-time","arguments":{"time":3155759999999999999}}"#,
            r#"{"execute":"guest-set-time","arguments":{"time":"1"}}"#,
            r#"{"execute":"guest-set-time","arguments":{"time":1.5}}"#,
            r#"{"execute":"guest-set-time","arguments":{"time":9223372036854775808}}"#,
            r#"{"execute":"guest-set-time","arguments":{"time":1,"x":1}}"#,
            r#"{"execute":"guest-suspend-ram","arguments":{"x":1}}"#,
            r#"{"execute":"guest-suspend-disk","arguments":{"x":1}}"#,
            r#"{"execute":"guest-suspend-hybrid","arguments":{"x":1}}"#,
            r#"{"execute":"guest-network-get-interfaces"}"#,
            r#"{"execute":"guest-get-vcpus"}"#,
            r#"{"execute":"guest-set-vcpus"}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":{}}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[1]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":0}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":"0","online":true}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":0,"online":1}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":0,"online":true,"x":1}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":0,"online":true,"can-offline":1}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":99,"online":true}]}}"#,
            r#"{"execute":"guest-set-vcpus","arguments":{"vcpus":[{"logical-id":-1,"online":false}]}}"#,
            r#"{"execute":"guest-get-memory-blocks"}"#,
            r#"{"execute":"guest-get-memory-block-info"}"#,
            r#"{"execute":"guest-set-memory-blocks"}"#,
            r#"{"execute":"guest-set-memory-blocks","arguments":{"mem-blks":[]}}"#,
            r#"{"execute":"guest-set-memory-blocks","arguments":{"mem-blks":5}}"#,
            r#"{"execute":"guest-set-memory-blocks","arguments":{"mem-blks":[{}]}}"#,
            r#"{"execute":"guest-set-memory-blocks","arguments":{"mem-blks":[{"phys-index":1.5,"online":true}]}}"#,
            r#"{"execute":"guest-set-memory-blocks","arguments":{"mem-blks":[{"phys-index":999999,"online":true}]}}"#,
            r#"{"execute":"guest-set-memory-blocks","arguments":{"mem-blks":[{"phys-index":-1,"online":false},{"phys-index":18446744073709551615,"online":true,"can-offline":false}]}}"#,
        ]),
    );
}

/// Returns number, `online` and `can-offline` of each processor.
fn cpus(client: &mut Client) -> Vec<(i64, bool, bool)> {
    let list = client.get("guest-get-vcpus");
    let mut cpus: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|cpu| {
            let bool = |name: &str| cpu[name].as_bool().expect("a boolean");
            let id = cpu["logical-id"].as_i64().expect("a number");
            (id, bool("online"), bool("can-offline"))
        })
        .collect();
    cpus.sort();
    cpus
}

fn block(client: &mut Client, index: u64) -> Value {
    let list = client.get("guest-get-memory-blocks");
    let list = list.as_array().expect("a list");
    let found = list.iter().find(|block| block["phys-index"] == index);
    found
        .cloned()
        .unwrap_or_else(|| panic!("no block {index}: {list:?}"))
}

/// Returns all routes without their use counts, with metrics and flags cut to 32 bits: qemu-ga extends
/// the sign of IPv6 metrics and flags to 64 bits.
fn routes(client: &mut Client) -> Vec<Value> {
    let mut list = client.get("guest-network-get-route");
    let list = list.as_array_mut().expect("a list");
    for route in &mut *list {
        for name in ["metric", "flags"] {
            let value = route[name].as_u64().or_else(|| {
                let value = route[name].as_i64()?;
                Some(value.cast_unsigned())
            });

            route[name] = (value.expect("a number") & 0xFFFF_FFFF).into();
        }
        for name in ["refcnt", "use"] {
            assert!(route[name].is_number(), "{route}");
            route[name] = Value::Null;
        }
    }
    list.clone()
}

/// Runs a command that prints a number of seconds.
fn seconds(guest: &mut Guest, command: &str) -> i64 {
    let said = guest.shell().run(command);
    said.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{command}: {said}"))
}

/// Asserts that a clock shows a time that was set right before.
fn assert_follows(clock: i64, set: i64) {
    assert!((set..set + 30).contains(&clock), "{clock} after {set}");
}

/// Takes the second processor online. The first one is never offline.
const ONLINE: &str = "echo 1 >/sys/devices/system/cpu/cpu1/online";
const CLOCK: &str = "date +%s";
const RTC: &str = "cat /sys/class/rtc/rtc0/since_epoch";

#[test]
fn processors_and_memory_go_on_and_off_line_and_clocks_are_set() {
    let mut checks = Checks::new("hardware");
    // The Debian release's own kernel: newer kernels refuse hot-added processors under software
    // emulation. Memory in the movable zone can always be taken offline.
    let mut guest = Machine::new(Image::Busybox)
        .release_kernel()
        .reference()
        .kernel("possible_cpus=4")
        .kernel("memhp_default_state=online_movable")
        .qemu(&["-smp", "2,maxcpus=4", "-m", "256M,slots=4,maxmem=2G"])
        .boot();
    guest.wait_shell();
    guest.shell().run(
        "ip route add blackhole 10.99.0.0/16; ip route add 10.98.0.0/16 via 10.0.2.2 metric 7; \
         ip -6 addr add fd00::2/64 dev eth0; ip -6 route add fd01::/48 via fd00::1 metric 3000000000; \
         ip -6 route add unreachable fd02::/64",
    );
    let (mut ours, mut theirs) = (guest.client(), guest.reference());
    replies(&mut checks, &mut ours, &mut theirs);
    processors(&mut checks, &mut guest, &mut ours);
    memory(&mut checks, &mut guest, &mut ours);
    clocks(&mut checks, &mut guest, &mut ours);
    refused_times(&mut checks, &mut ours, &mut theirs);
    hardware_clocks_that_fail(&mut checks, &mut guest, &mut ours);
    checks.finish();
}

fn replies(checks: &mut Checks, ours: &mut Client, theirs: &mut Client) {
    checks.run("replies as root equal those of qemu-ga", || {
        let vcpu = |id: i64, online: bool| json!({ "logical-id": id, "online": online });
        let set = |list: Value| request("guest-set-vcpus", &json!({ "vcpus": list }));
        let blocks = |list: Value| request("guest-set-memory-blocks", &json!({ "mem-blks": list }));
        let rows = [
            request("guest-get-vcpus", &json!({})),
            request("guest-get-memory-block-info", &json!({})),
            set(json!([vcpu(0, false)])),
            set(json!([vcpu(0, true), vcpu(1, true)])),
            set(json!([vcpu(0, true), vcpu(0, false), vcpu(1, false)])),
            set(json!([vcpu(7, true), vcpu(0, true)])),
            set(json!([vcpu(0, true), vcpu(7, false)])),
            blocks(
                json!([{ "phys-index": 0, "online": true }, { "phys-index": 77, "online": true }]),
            ),
        ];
        for row in &rows {
            assert_same_reply(ours, theirs, row);
        }
        format!("{} requests", rows.len())
    });
    checks.run("routes equal those of qemu-ga except for the sign", || {
        // The kernel needs time for the duplicate address detection of IPv6.
        let same = wait::until(wait::ANSWER, || {
            let (ours, theirs) = (routes(ours), routes(theirs));
            (ours == theirs).then_some(ours)
        });
        let same = same.expect("the same routes");
        let has = |metric: u64| same.iter().any(|route| route["metric"] == metric);
        assert!(has(7) && has(3_000_000_000));
        format!("{} routes", same.len())
    });
    checks.run("memory blocks equal those of qemu-ga", || {
        let sorted = |client: &mut Client| {
            let mut list = client.get("guest-get-memory-blocks");
            let list = list.as_array_mut().expect("a list");
            list.sort_by_key(|block| block["phys-index"].as_u64());
            list.clone()
        };
        let blocks = sorted(ours);
        assert_eq!(blocks, sorted(theirs));
        format!("{} blocks", blocks.len())
    });
}

fn processors(checks: &mut Checks, guest: &mut Guest, ours: &mut Client) {
    checks.run("takes a processor offline and online", || {
        guest.shell().run(ONLINE);
        assert_eq!(cpus(ours), [(0, true, false), (1, true, true)]);
        let set = |client: &mut Client, online: bool| {
            let vcpus = json!([{ "logical-id": 1, "online": online }]);
            client.call("guest-set-vcpus", json!({ "vcpus": vcpus }))
        };
        assert_eq!(set(ours, false), 1);
        assert_eq!(cpus(ours), [(0, true, false), (1, false, true)]);
        assert_eq!(guest.shell().run("grep -c ^processor /proc/cpuinfo"), "1");
        assert_eq!(set(ours, true), 1);
        assert_eq!(guest.shell().run("grep -c ^processor /proc/cpuinfo"), "2");
        "processor 1".into()
    });
    checks.run("a hot-added processor comes online", || {
        guest.shell().run(ONLINE);
        let slots = guest.qmp("query-hotpluggable-cpus", json!({}));
        let slots = slots.as_array().expect("a list");
        let free = slots.iter().find(|slot| slot.get("qom-path").is_none());
        let free = free.expect("a free slot");
        let mut new = free["props"].clone();
        new["driver"] = free["type"].clone();
        new["id"] = "new".into();
        guest.qmp("device_add", new);
        let three = || Some(cpus(ours)).filter(|cpus| cpus.len() == 3);
        let before = wait::until(wait::ANSWER, three).expect("a third processor");
        let id = before[2].0;
        let vcpus = json!([{ "logical-id": id, "online": true }]);
        assert_eq!(ours.call("guest-set-vcpus", json!({ "vcpus": vcpus })), 1);
        assert_eq!(cpus(ours)[2], (id, true, true));
        assert_eq!(guest.shell().run("grep -c ^processor /proc/cpuinfo"), "3");
        format!("before {before:?}")
    });
}

fn memory(checks: &mut Checks, guest: &mut Guest, ours: &mut Client) {
    checks.run("takes hot-added memory online and offline", || {
        let size = ours.get("guest-get-memory-block-info");
        let size = size["size"].as_u64().expect("a size");
        let old = ours.get("guest-get-memory-blocks");
        let old = old.as_array().expect("a list").clone();
        guest.qmp(
            "object-add",
            json!({ "qom-type": "memory-backend-ram", "id": "more", "size": size }),
        );
        guest.qmp(
            "device_add",
            json!({ "driver": "pc-dimm", "id": "dimm", "memdev": "more" }),
        );
        let new = || {
            let list = ours.get("guest-get-memory-blocks");
            let mut list = list.as_array().expect("a list").iter();
            let known = |block: &Value| old.iter().any(|o| o["phys-index"] == block["phys-index"]);
            let block = list.find(|block| !known(block))?;
            block["phys-index"].as_u64()
        };
        let index = wait::until(wait::ANSWER, new).expect("a new memory block");
        for online in [true, false, false, true] {
            let wanted = json!([{ "phys-index": index, "online": online },
                                { "phys-index": 99999, "online": online }]);
            let reply = ours.call("guest-set-memory-blocks", json!({ "mem-blks": wanted }));
            assert_eq!(
                reply[1],
                json!({ "phys-index": 99999, "response": "not-found", "error-code": 2 })
            );

            assert_eq!(
                reply[0],
                json!({ "phys-index": index, "response": "success" })
            );
            assert_eq!(block(ours, index)["online"], online);
        }
        format!("block {index} of {size} bytes")
    });
    checks.run("reports why a memory block cannot go offline", || {
        let reply = ours.call(
            "guest-set-memory-blocks",
            json!({ "mem-blks": [{ "phys-index": 0, "online": false }] }),
        );
        assert_eq!(reply[0]["response"], "operation-failed");
        assert!(reply[0]["error-code"].as_i64().is_some_and(|code| code > 0));
        reply.to_string()
    });
}

fn clocks(checks: &mut Checks, guest: &mut Guest, ours: &mut Client) {
    checks.run("guest-set-time with a time sets both clocks", || {
        for time in [4_102_444_799u64 - 946_684_800, 951_782_399, 1_900_000_000] {
            let ns = time * 1_000_000_000;
            assert_eq!(
                ours.call("guest-set-time", json!({ "time": ns })),
                json!({})
            );
            let now = ours.get("guest-get-time").as_u64().expect("a time");
            assert!((ns..ns + 30_000_000_000).contains(&now), "{now} after {ns}");
            let before = seconds(guest, CLOCK);
            let rtc = seconds(guest, RTC);
            let after = seconds(guest, CLOCK);
            assert!(
                (before - 2..=after + 2).contains(&rtc),
                "{before} {rtc} {after}"
            );
            assert_follows(before, time as i64);
        }
        "three times".into()
    });
    checks.run(
        "guest-set-time without a time takes the hardware clock's",
        || {
            let rtc = seconds(guest, RTC);
            guest.shell().run("date -s @1234567890 >/dev/null");
            assert_eq!(ours.get("guest-set-time"), json!({}));
            let clock = seconds(guest, CLOCK);
            assert_follows(clock, rtc);
            format!("{clock}, {rtc} before")
        },
    );
}

fn refused_times(checks: &mut Checks, ours: &mut Client, theirs: &mut Client) {
    checks.run("refuses times outside 1970 to 2069", || {
        for time in [-1, -1_000, -999_999_999] {
            for client in [&mut *ours, &mut *theirs] {
                let refusal = client.try_call("guest-set-time", json!({ "time": time }));
                let desc = refusal.expect_err("a refusal").desc;
                assert_eq!(desc, "Failed to set time to guest: Invalid argument");
            }
        }
        for time in [
            -1_000_000_000,
            3_155_760_000_000_000_000i64,
            i64::MAX,
            i64::MIN,
        ] {
            let refusal = ours
                .try_call("guest-set-time", json!({ "time": time }))
                .expect_err("a refusal");
            assert_eq!(refusal.desc, "Invalid time");
        }
        let refusal = theirs
            .try_call(
                "guest-set-time",
                json!({ "time": 3_200_000_000_000_000_000i64 }),
            )
            .expect_err("a refusal");
        assert!(refusal.desc.starts_with("Invalid time"), "{}", refusal.desc);
        refusal.desc
    });
}

fn hardware_clocks_that_fail(checks: &mut Checks, guest: &mut Guest, ours: &mut Client) {
    checks.run("sets the time and reports that the hardware clock is busy", || {
        guest.shell().run(
            "sleep 300 </dev/rtc0 >/dev/null 2>&1 & echo $! >/run/holder; \
             until readlink /proc/$!/fd/0 | grep rtc0; do sleep 0.1; done",
        );
        let time = 1_950_000_000i64;
        let refusal = ours
            .try_call("guest-set-time", json!({ "time": time * 1_000_000_000 }))
            .expect_err("a refusal");
        guest.shell().run("kill $(cat /run/holder)");
        let clock = seconds(guest, CLOCK);
        assert_follows(clock, time);
        assert_eq!(
            refusal.desc,
            "child process has failed to set hardware clock to system time: Device or resource busy"
        );
        refusal.desc
    });
    checks.run(
        "without a hardware clock sets a given time, else reports an error",
        || {
            guest.shell().run(
                "kill $(cat /run/holder) 2>/dev/null; for d in /sys/bus/*/drivers/rtc_cmos; do for l in $d/0*:* $d/rtc_cmos*; do \
             [ -e $l ] && echo ${l##*/} >$d/unbind; done; done; ! [ -e /sys/class/rtc/rtc0 ]",
            );
            let time = 1_960_000_000i64;
            ours.call("guest-set-time", json!({ "time": time * 1_000_000_000 }));
            let clock = seconds(guest, CLOCK);
            assert_follows(clock, time);
            let refusal = ours
                .try_call("guest-set-time", json!({}))
                .expect_err("a refusal");
            assert_eq!(
                refusal.desc,
                "child process has failed to set hardware clock to system time: \
             No such file or directory"
            );
            refusal.desc
        },
    );
}

#[test]
fn without_ipv6_only_ipv4_routes_are_listed() {
    let mut guest = Machine::new(Image::Busybox).kernel("ipv6.disable=1").boot();
    guest.wait_shell();
    let mut client = guest.client();
    let routes = client.get("guest-network-get-route");
    let routes = routes.as_array().expect("a list");
    assert!(!routes.is_empty() && routes.iter().all(|route| route["version"] == 4));
}

/// Asserts that a suspend command is refused. Returns its error.
fn assert_unsupported(client: &mut Client, command: &str) -> String {
    let refusal = client.try_call(command, json!({})).expect_err("a refusal");
    assert_eq!(
        refusal.desc,
        "the requested suspend mode is not supported by the guest"
    );
    refusal.desc
}

/// What `gaunt --check=json` says in the guest of a command: `None` if it works.
fn missing(guest: &mut Guest, command: &str) -> Option<String> {
    let ran = guest
        .shell()
        .try_run("/usr/bin/gaunt --check=json", wait::ANSWER);
    let found: Value = serde_json::from_str(&ran.output).expect("JSON");
    assert_eq!(found["channels"][0]["works"], true, "{found}");
    let commands = found["commands"].as_array().expect("a list");
    let lacks = commands.iter().any(|one| one["works"] == false);
    assert_eq!(ran.status, if lacks { 3 } else { 0 });
    let one = commands.iter().find(|one| one["name"] == command);
    let one = one.expect("every command is listed");
    one["missing"].as_str().map(str::to_owned)
}

/// Suspends the guest to memory and wakes it. The agent must then answer on the same connection.
fn suspend_and_wake(guest: &mut Guest, client: &mut Client, command: &str) -> String {
    guest.forget_events();
    client.send(request(command, &json!({})));
    guest.event("SUSPEND", wait::BOOT);
    let asleep = Instant::now();
    guest.qmp("system_wakeup", json!({}));
    guest.event("WAKEUP", wait::BOOT);
    let skipped = client.sync(wait::BOOT).expect("an answer after waking");
    assert_eq!(skipped, 0, "the command must not reply on success");
    format!("awake after {:.1} s", asleep.elapsed().as_secs_f32())
}

/// Makes a disk the swap device and the device to resume from.
fn swap(guest: &mut Guest, disk: &str) {
    guest.shell().run(&format!(
        "mkswap /dev/{disk} >/dev/null && swapon /dev/{disk}"
    ));
    guest
        .shell()
        .run(&format!("cat /sys/block/{disk}/dev >/sys/power/resume"));
}

/// Makes an empty disk image of 512 MiB.
fn empty(path: &Path) {
    disk::raw(path, Fs::None);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("a file");
    file.set_len(512 << 20).expect("a larger file");
}

#[test]
fn a_guest_suspends_to_memory_and_disk_and_resumes() {
    let mut checks = Checks::new("suspend");
    let scratch = Scratch::new();
    let disk = scratch.join("swap.raw");
    empty(&disk);
    let machine = || {
        Machine::new(Image::Busybox)
            .disk(&disk)
            .kernel("image.mount=off")
            .kernel("no_console_suspend")
    };
    // One suspend to memory a boot: under software emulation a second one wakes up at once, with any
    // agent.
    checks.run(
        "guest-suspend-ram uses deep although s2idle is chosen",
        || {
            let mut guest = machine().boot();
            guest.wait_shell();
            let mut client = guest.client();
            guest.shell().run("echo s2idle >/sys/power/mem_sleep");
            assert_eq!(missing(&mut guest, "guest-suspend-ram"), None);
            let disk = missing(&mut guest, "guest-suspend-disk").expect("no swap area");
            assert!(disk.contains("no device to resume from"), "{disk}");
            suspend_and_wake(&mut guest, &mut client, "guest-suspend-ram")
        },
    );
    checks.run(
        "guest-suspend-hybrid wakes and restores the disk mode",
        || {
            let mut guest = machine().boot();
            guest.wait_shell();
            let mut client = guest.client();
            swap(&mut guest, "vda");
            let before = guest.shell().run("cat /sys/power/disk");
            let evidence = suspend_and_wake(&mut guest, &mut client, "guest-suspend-hybrid");
            assert_eq!(guest.shell().run("cat /sys/power/disk"), before);
            evidence
        },
    );
    let mut guest = machine().boot();
    guest.wait_shell();
    let mut client = guest.client();
    checks.run(
        "refuses a suspend to disk without a device to resume from",
        || {
            assert_unsupported(&mut client, "guest-suspend-hybrid");
            assert_unsupported(&mut client, "guest-suspend-disk")
        },
    );
    checks.run(
        "guest-suspend-disk powers off, and the next boot resumes",
        || {
            swap(&mut guest, "vda");
            guest.forget_events();
            guest.shell().run("echo here >/run/before");
            client.send(request("guest-suspend-disk", &json!({})));
            guest.event("SHUTDOWN", wait::BOOT);
            let status = guest.wait_end(wait::BOOT);
            assert!(status.success());
            let mut guest = machine().kernel("image.agent=off").boot();
            guest.wait_shell();
            let resume = "cat /sys/block/vda/dev >/sys/power/resume";
            guest
                .shell()
                .run(&format!("(sleep 1; {resume}) >/dev/null 2>&1 &"));
            let mut client = guest.client();
            let time = client.get("guest-get-time");
            assert_eq!(guest.shell().run("cat /run/before"), "here");
            format!("guest-get-time: {time}")
        },
    );
    checks.finish();
}
