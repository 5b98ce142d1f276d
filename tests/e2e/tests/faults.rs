//! What the kernel refuses: system calls made to fail by strace. The agent says so, as qemu-ga does
//! where that can be made to, and goes on as before.

use gaunt_e2e::agent::Agent;
use gaunt_e2e::client::Client;
use gaunt_e2e::compare::ForComparison;
use gaunt_e2e::process::Process;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::{Value, json};

fn ours() -> (Agent, Client) {
    Agent::gaunt(&[]).client_for_comparison()
}

fn both() -> [(Agent, Client); 2] {
    [ours(), Agent::reference(&[]).client_for_comparison()]
}

/// Makes system calls of an agent and its children fail as long as what it gives is there.
fn inject(agent: &Agent, calls: &str, error: &str) -> Process {
    let log = agent.state().join("calls");
    let fault = format!("inject={calls}:error={error}");
    let trace = format!("trace={calls}");
    agent.trace(&[
        "-o",
        log.to_str().expect("a plain path"),
        "-e",
        &trace,
        "-e",
        &fault,
    ])
}

fn stop(mut tracer: Process, agent: &Agent) {
    tracer.signal(libc::SIGINT);
    assert!(tracer.wait(wait::ANSWER).is_some());
    wait::expect("the tracer to let go", wait::ANSWER, || {
        agent.status("TracerPid") == 0
    });
}

/// The error of a command while calls fail.
fn refused(
    (agent, client): &mut (Agent, Client),
    (calls, error): (&str, &str),
    command: &str,
    arguments: &Value,
) -> String {
    let tracer = inject(agent, calls, error);
    let outcome = client.try_call(command, arguments.clone());
    stop(tracer, agent);
    let refusal = outcome.expect_err(command);
    assert_eq!(refusal.class, "GenericError");
    refusal.desc
}

#[test]
fn a_close_that_fails_is_said_once_and_leaves_nothing_behind() {
    let mut pair = ours();
    let open = json!({ "path": "/dev/zero" });
    let handle = pair.1.call("guest-file-open", open);
    let arguments = json!({ "handle": handle });
    let said = refused(&mut pair, ("close", "EIO"), "guest-file-close", &arguments);
    assert_eq!(said, "failed to close handle: Input/output error");
    // Q16: with qemu-ga the second one is the end of the agent.
    let (_, client) = &mut pair;
    let gone = client.try_call("guest-file-close", arguments);
    let gone = gone.expect_err("it is closed").desc;
    assert_eq!(gone, format!("handle '{handle}' has not been found"));
    assert_eq!(client.get("guest-ping"), json!({}));
}

#[test]
fn without_a_socket_both_say_why_there_are_no_interfaces() {
    for mut pair in both() {
        let said = refused(
            &mut pair,
            ("socket", "EMFILE"),
            "guest-network-get-interfaces",
            &json!({}),
        );
        assert_eq!(said, "getifaddrs failed: Too many open files");
        let list = pair.1.get("guest-network-get-interfaces");
        assert!(!list.as_array().expect("a list").is_empty());
    }
}

#[test]
fn without_a_process_it_is_said_why_nothing_runs() {
    const FORKS: &str = "clone,clone3,fork,vfork";
    const NO_CHILD: &str = "failed to create child process: Resource temporarily unavailable";
    let mut pair = ours();
    let program = json!({ "path": "/bin/true" });
    let said = refused(&mut pair, (FORKS, "EAGAIN"), "guest-exec", &program);
    assert_eq!(said, NO_CHILD);
    let said = refused(&mut pair, (FORKS, "EAGAIN"), "guest-get-disks", &json!({}));
    assert_eq!(said, NO_CHILD);
    let (_, client) = &mut pair;
    assert!(client.get("guest-get-disks").is_array());
    assert!(client.call("guest-exec", program)["pid"].is_i64());
}

#[test]
fn a_read_for_which_there_is_no_memory_has_an_end_all_the_same() {
    let agent = Agent::gaunt(&[]);
    let scratch = Scratch::new();
    scratch.give_away();
    let path = scratch.join("file");
    std::fs::write(&path, [b'x'; 16_384]).expect("a file");
    let mut client = agent.client();
    let handle = client.call("guest-file-open", json!({ "path": path }));
    let tracer = inject(&agent, "mmap,mremap", "ENOMEM");
    let (mut refused, mut read) = (0, 0);
    // Around what fits where replies rest: the text alone, the text and its end, and neither.
    for count in (5_900..6_300).step_by(7) {
        let from = json!({ "handle": handle, "offset": 0, "whence": 0 });
        client.call("guest-file-seek", from);
        let arguments = json!({ "handle": handle, "count": count });
        match client.try_call("guest-file-read", arguments) {
            Ok(reply) => {
                assert_eq!(reply["count"], count);
                read += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal.desc, "failed to read file: Cannot allocate memory");
                refused += 1;
            }
        }
    }
    stop(tracer, &agent);
    assert!(refused > 0 && read > 0, "{refused} refused, {read} read");
}
