//! The clock, processors, memory blocks, sleep and routes: compared with qemu-ga, and their effect
//! seen in guests.

use std::path::Path;
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::compare::{compare, difference, lines};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::{Value, json};

#[test]
fn without_privileges_both_say_the_same() {
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

/// All routes without what goes on by itself, and without qemu-ga's signs (Q20).
fn routes(client: &mut Client) -> Vec<Value> {
    let mut list = client.get("guest-network-get-route");
    let list = list.as_array_mut().expect("a list");
    for route in &mut *list {
        for name in ["metric", "flags"] {
            let value = route[name].as_u64().or_else(|| {
                let value = route[name].as_i64()?;
                Some(value.cast_unsigned())
            });
            // Of 64 bits the upper half is copies of the sign.
            route[name] = (value.expect("a number") & 0xFFFF_FFFF).into();
        }
        for name in ["refcnt", "use"] {
            assert!(route[name].is_number(), "{route}");
            route[name] = Value::Null;
        }
    }
    list.clone()
}

fn seconds(guest: &mut Guest, command: &str) -> i64 {
    let said = guest.shell().run(command);
    said.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{command}: {said}"))
}

const CLOCK: &str = "date +%s";
const RTC: &str = "cat /sys/class/rtc/rtc0/since_epoch";

#[test]
fn parts_come_and_go_and_clocks_are_set() {
    let mut checks = Checks::new("hardware");
    // Newer kernels take no processors under an emulator that they do not know; memory of the movable
    // zone can always go again.
    let mut guest = Machine::new(Image::Busybox)
        .release_kernel()
        .reference()
        .kernel("possible_cpus=4")
        .kernel("memhp_default_state=online_movable")
        .qemu(&["-smp", "2,maxcpus=4", "-m", "256M,slots=4,maxmem=2G"])
        .boot();
    guest.wait_shell();
    let (mut ours, mut theirs) = (guest.client(), guest.reference());

    checks.run("both say the same, and refuse the same", || {
        guest.shell().run(
            "ip route add blackhole 10.99.0.0/16; ip route add 10.98.0.0/16 via 10.0.2.2 metric 7; \
             ip -6 addr add fd00::2/64 dev eth0; ip -6 route add fd01::/48 via fd00::1 metric 3000000000; \
             ip -6 route add unreachable fd02::/64",
        );
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
            blocks(json!([{ "phys-index": 0, "online": true }, { "phys-index": 77, "online": true }])),
        ];
        for row in &rows {
            let difference = difference(&mut ours, &mut theirs, row.as_bytes());
            assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        }
        format!("{} requests", rows.len())
    });
    checks.run("routes are those of qemu-ga but for their sign", || {
        // The kernel takes its time to find that an IPv6 address is nobody else's.
        let same = wait::until(wait::ANSWER, || {
            let (ours, theirs) = (routes(&mut ours), routes(&mut theirs));
            (ours == theirs).then_some(ours)
        });
        let same = same.expect("the same routes");
        let has = |metric: u64| same.iter().any(|route| route["metric"] == metric);
        assert!(has(7) && has(3_000_000_000));
        format!("{} routes", same.len())
    });
    checks.run("memory blocks are those of qemu-ga", || {
        let sorted = |client: &mut Client| {
            let mut list = client.get("guest-get-memory-blocks");
            let list = list.as_array_mut().expect("a list");
            list.sort_by_key(|block| block["phys-index"].as_u64());
            list.clone()
        };
        let blocks = sorted(&mut ours);
        assert_eq!(blocks, sorted(&mut theirs));
        format!("{} blocks", blocks.len())
    });
    checks.run("a processor stops and starts", || {
        assert_eq!(cpus(&mut ours), [(0, true, false), (1, true, true)]);
        let set = |client: &mut Client, online: bool| {
            let vcpus = json!([{ "logical-id": 1, "online": online }]);
            client.call("guest-set-vcpus", json!({ "vcpus": vcpus }))
        };
        assert_eq!(set(&mut ours, false), 1);
        assert_eq!(cpus(&mut ours), [(0, true, false), (1, false, true)]);
        assert_eq!(guest.shell().run("grep -c ^processor /proc/cpuinfo"), "1");
        assert_eq!(set(&mut ours, true), 1);
        assert_eq!(guest.shell().run("grep -c ^processor /proc/cpuinfo"), "2");
        "1 down, 1 up".into()
    });
    checks.run("a processor added while the guest runs is started", || {
        let slots = guest.qmp("query-hotpluggable-cpus", json!({}));
        let slots = slots.as_array().expect("a list");
        let free = slots.iter().find(|slot| slot.get("qom-path").is_none());
        let free = free.expect("a free slot");
        let mut new = free["props"].clone();
        new["driver"] = free["type"].clone();
        new["id"] = "new".into();
        guest.qmp("device_add", new);
        let end = Instant::now() + wait::ANSWER;
        while cpus(&mut ours).len() < 3 {
            assert!(Instant::now() < end, "the guest does not see it");
            std::thread::sleep(Duration::from_millis(200));
        }
        let before = cpus(&mut ours);
        let id = before[2].0;
        let vcpus = json!([{ "logical-id": id, "online": true }]);
        assert_eq!(ours.call("guest-set-vcpus", json!({ "vcpus": vcpus })), 1);
        assert_eq!(cpus(&mut ours)[2], (id, true, true));
        assert_eq!(guest.shell().run("grep -c ^processor /proc/cpuinfo"), "3");
        format!("before {before:?}")
    });
    checks.run("memory added while the guest runs goes and comes", || {
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
        let end = Instant::now() + wait::ANSWER;
        let index = loop {
            let list = ours.get("guest-get-memory-blocks");
            let list = list.as_array().expect("a list").clone();
            let known = |block: &Value| old.iter().any(|o| o["phys-index"] == block["phys-index"]);
            if let Some(block) = list.iter().find(|block| !known(block)) {
                break block["phys-index"].as_u64().expect("a number");
            }
            assert!(Instant::now() < end, "the guest does not see it");
            std::thread::sleep(Duration::from_millis(200));
        };
        let mut answers = Vec::new();
        for online in [true, false, false, true] {
            let wanted = json!([{ "phys-index": index, "online": online },
                                { "phys-index": 99999, "online": online }]);
            let reply = ours.call("guest-set-memory-blocks", json!({ "mem-blks": wanted }));
            assert_eq!(
                reply[1],
                json!({ "phys-index": 99999, "response": "not-found", "error-code": 2 })
            );
            answers.push(reply[0].to_string());
            assert_eq!(
                reply[0],
                json!({ "phys-index": index, "response": "success" })
            );
            assert_eq!(block(&mut ours, index)["online"], online);
        }
        format!("block {index} of {size} bytes")
    });
    checks.run("a block that cannot go says why", || {
        let reply = ours.call(
            "guest-set-memory-blocks",
            json!({ "mem-blks": [{ "phys-index": 0, "online": false }] }),
        );
        assert_eq!(reply[0]["response"], "operation-failed");
        assert!(reply[0]["error-code"].as_i64().is_some_and(|code| code > 0));
        reply.to_string()
    });
    checks.run("a time sets both clocks", || {
        for time in [4_102_444_799u64 - 946_684_800, 951_782_399, 1_900_000_000] {
            let ns = time * 1_000_000_000;
            assert_eq!(
                ours.call("guest-set-time", json!({ "time": ns })),
                json!({})
            );
            let now = ours.get("guest-get-time").as_u64().expect("a time");
            assert!((ns..ns + 5_000_000_000).contains(&now), "{now} after {ns}");
            let (clock, rtc) = (seconds(&mut guest, CLOCK), seconds(&mut guest, RTC));
            assert!((clock - rtc).abs() <= 2, "{clock} {rtc}");
            assert!((0..10).contains(&(clock - time as i64)), "{clock} {time}");
        }
        "three times".into()
    });
    checks.run("without a time the hardware clock counts", || {
        let rtc = seconds(&mut guest, RTC);
        guest.shell().run("date -s @1234567890 >/dev/null");
        assert_eq!(ours.get("guest-set-time"), json!({}));
        let clock = seconds(&mut guest, CLOCK);
        assert!((0..10).contains(&(clock - rtc)), "{clock} {rtc}");
        format!("{clock}, {rtc} before")
    });
    checks.run("times outside 1970 to 2069 are refused", || {
        for time in [-1, -1_000, -999_999_999] {
            for client in [&mut ours, &mut theirs] {
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
    checks.run("a hardware clock in use elsewhere is an error, the time is set", || {
        guest.shell().run("sleep 30 </dev/rtc0 & echo $! >/run/holder");
        std::thread::sleep(Duration::from_millis(300));
        let time = 1_950_000_000i64;
        let refusal = ours
            .try_call("guest-set-time", json!({ "time": time * 1_000_000_000 }))
            .expect_err("a refusal");
        guest.shell().run("kill $(cat /run/holder)");
        let clock = seconds(&mut guest, CLOCK);
        assert!((0..10).contains(&(clock - time)), "{clock}");
        assert_eq!(
            refusal.desc,
            "child process has failed to set hardware clock to system time: Device or resource busy"
        );
        refusal.desc
    });
    checks.run(
        "without a hardware clock a time is set, and none is an error",
        || {
            guest.shell().run(
                "for d in /sys/bus/*/drivers/rtc_cmos; do for l in $d/0*:* $d/rtc_cmos*; do \
             [ -e $l ] && echo ${l##*/} >$d/unbind; done; done; ! [ -e /sys/class/rtc/rtc0 ]",
            );
            let time = 1_960_000_000i64;
            ours.call("guest-set-time", json!({ "time": time * 1_000_000_000 }));
            let clock = seconds(&mut guest, CLOCK);
            assert!((0..10).contains(&(clock - time)), "{clock}");
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
    checks.finish();
}

#[test]
fn without_ipv6_the_routes_are_those_of_ipv4() {
    let mut guest = Machine::new(Image::Busybox).kernel("ipv6.disable=1").boot();
    guest.wait_shell();
    let mut client = guest.client();
    let routes = client.get("guest-network-get-route");
    let routes = routes.as_array().expect("a list");
    assert!(!routes.is_empty() && routes.iter().all(|route| route["version"] == 4));
}

fn refused(client: &mut Client, command: &str) -> String {
    let refusal = client.try_call(command, json!({})).expect_err("a refusal");
    assert_eq!(
        refusal.desc,
        "the requested suspend mode is not supported by the guest"
    );
    refusal.desc
}

/// Sleeps in memory, wakes, and has the agent answer on the same connection.
fn nap(guest: &mut Guest, client: &mut Client, command: &str) -> String {
    guest.forget_events();
    client.send(request(command, &json!({})));
    guest.event("SUSPEND", wait::BOOT);
    let asleep = Instant::now();
    guest.qmp("system_wakeup", json!({}));
    guest.event("WAKEUP", wait::BOOT);
    let skipped = client.sync(wait::BOOT).expect("an answer after waking");
    assert_eq!(skipped, 0, "success is silent");
    format!("awake after {:.1} s", asleep.elapsed().as_secs_f32())
}

fn swap(guest: &mut Guest, disk: &str) {
    guest.shell().run(&format!(
        "mkswap /dev/{disk} >/dev/null && swapon /dev/{disk}"
    ));
    guest
        .shell()
        .run(&format!("cat /sys/block/{disk}/dev >/sys/power/resume"));
}

fn empty(path: &Path) {
    disk::raw(path, Fs::None);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("a file");
    file.set_len(512 << 20).expect("a larger file");
}

#[test]
fn the_guest_sleeps_and_wakes() {
    let mut checks = Checks::new("sleep");
    let scratch = Scratch::new();
    let disk = scratch.join("swap.raw");
    empty(&disk);
    let machine = || {
        Machine::new(Image::Busybox)
            .disk(&disk)
            .kernel("gaunt.mount=off")
            .kernel("no_console_suspend")
    };
    // Under software emulation a machine sleeps in memory once a boot: the next time it is awake again
    // at once, whoever puts it to sleep.
    checks.run("in memory, though s2idle is chosen", || {
        let mut guest = machine().boot();
        guest.wait_shell();
        let mut client = guest.client();
        guest.shell().run("echo s2idle >/sys/power/mem_sleep");
        nap(&mut guest, &mut client, "guest-suspend-ram")
    });
    checks.run("on disk and in memory", || {
        let mut guest = machine().boot();
        guest.wait_shell();
        let mut client = guest.client();
        swap(&mut guest, "vda");
        let before = guest.shell().run("cat /sys/power/disk");
        let evidence = nap(&mut guest, &mut client, "guest-suspend-hybrid");
        assert_eq!(guest.shell().run("cat /sys/power/disk"), before);
        evidence
    });
    let mut guest = machine().boot();
    guest.wait_shell();
    let mut client = guest.client();
    checks.run("on disk only with a device to resume from", || {
        refused(&mut client, "guest-suspend-hybrid");
        refused(&mut client, "guest-suspend-disk")
    });
    swap(&mut guest, "vda");
    checks.run("on disk: the guest goes off", || {
        guest.forget_events();
        guest.shell().run("echo here >/run/before");
        client.send(request("guest-suspend-disk", &json!({})));
        guest.event("SHUTDOWN", wait::BOOT);
        let status = guest.wait_end(wait::BOOT);
        assert!(status.success());
        status.to_string()
    });
    checks.run("and comes back where it was", || {
        let mut guest = machine().kernel("gaunt.agent=off").boot();
        guest.wait_shell();
        let resume = "cat /sys/block/vda/dev >/sys/power/resume";
        guest
            .shell()
            .run(&format!("(sleep 1; {resume}) >/dev/null 2>&1 &"));
        let mut client = guest.client();
        let time = client.get("guest-get-time");
        assert_eq!(guest.shell().run("cat /run/before"), "here");
        format!("the agent says it is {time}")
    });
    checks.finish();
}
