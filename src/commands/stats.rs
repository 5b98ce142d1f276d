//! guest-get-diskstats and guest-get-cpustats: /proc/diskstats and /proc/stat as objects.
//!
//! Lines and columns are read by `parse::stats`. Times of processors are in milliseconds: the kernel
//! counts in hundredths of a second on every architecture, whatever its own clock.
//!
//! Differences from qemu-ga: none that shows. It cuts some columns of a disk to 32 bits, which have no
//! more in the kernel either.

use super::common::cannot;
use crate::parse::stats::{parse_cpu, parse_disk};
use crate::state::State;
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

const DONE: Name = Name::Done;

/// The members that old kernels have for partitions.
const DONE_BY_OLD_PARTITION: Name = Name::DoneByOldPartition;

const TIMES: Name = Name::ProcessorTimes;

/// A file, and the error if it cannot be opened.
const DISKS: (&str, Phrase) = ("proc/diskstats", Phrase::CannotReadDiskStats);
const PROCESSORS: (&str, Phrase) = ("proc/stat", Phrase::CannotReadProcessorStats);

/// Lists the I/O counters of every disk and partition.
pub(super) fn get_diskstats(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    list(&state.guest.root, reply, DISKS, false)
}

/// Lists the times of every processor.
pub(super) fn get_cpustats(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    list(&state.guest.root, reply, PROCESSORS, true)
}

fn list(
    root: &Root,
    reply: &mut Reply<'_>,
    (file, what): (&str, Phrase),
    processors: bool,
) -> Result<(), Failed> {
    let mut list = reply.list();
    let read = root.lines_at(&[file.as_bytes()], &mut |line| {
        let parsed = if processors {
            parse_cpu(line)
        } else {
            parse_disk(line)
        };
        if let Some(row) = parsed {
            let mut item = list.object();
            let numbers = row.numbers();
            if processors {
                item.text(Name::Type, b"linux");
                item.numbers(Name::Cpu, &row.id);
                item.numbers(TIMES, numbers);
            } else {
                item.text(Name::Name, row.name);
                item.numbers(Name::MajorMinor, &row.id);
                let mut stats = item.object(Name::Stats);
                let is_old = numbers.len() == 4;
                let names = if is_old { DONE_BY_OLD_PARTITION } else { DONE };
                stats.numbers(names, numbers);
            }
        }
        true
    });
    drop(list);
    read.map_err(|errno| cannot(reply, what, errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    fn reply(root: &Root, files: (&str, Phrase), processors: bool) -> String {
        let mut out = heapless::Vec::<u8, 8192>::new();
        let mut reply = Reply::new(&mut out);
        let outcome = list(root, &mut reply, files, processors);
        reply.finish(outcome);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn without_their_files_they_fail() {
        let tree = Tree::new();
        for (files, processors) in [(DISKS, false), (PROCESSORS, true)] {
            let file = files.0;
            assert_eq!(
                reply(&tree.root, files, processors),
                format!(
                    "{{\"error\": {{\"class\": \"GenericError\", \"desc\": \
                     \"Could not open '/{file}': No such file or directory\"}}}}\n"
                )
            );
        }
    }

    #[test]
    fn every_line_of_the_disks_is_told() {
        let table = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
            odd\n\
            \x20254       0 vda 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27\n\
            \x20254       1 vda1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n\
            \x20  8      16 sdb 1 2 3 4 5 6 7 8 9 10 18446744073709551615\n\
            \x20  8      17 sdb1 5 6 7 8\n\
            \x20  8      18 sdb2 5 6 7 8 9\n";
        let tree = Tree::of(&[("proc/diskstats", table)]);
        let old = "\"read-ios\": 1, \"read-merges\": 2, \"read-sectors\": 3, \"read-ticks\": 4, \
            \"write-ios\": 5, \"write-merges\": 6, \"write-sectors\": 7, \"write-ticks\": 8, \
            \"ios-pgr\": 9, \"total-ticks\": 10, \"weight-ticks\": ";
        let all = "{\"read-ios\": 11, \"read-merges\": 12, \"read-sectors\": 13, \
            \"read-ticks\": 14, \"write-ios\": 15, \"write-merges\": 16, \"write-sectors\": 17, \
            \"write-ticks\": 18, \"ios-pgr\": 19, \"total-ticks\": 20, \"weight-ticks\": 21, \
            \"discard-ios\": 22, \"discard-merges\": 23, \"discard-sectors\": 24, \
            \"discard-ticks\": 25, \"flush-ios\": 26, \"flush-ticks\": 27}";
        let partition = "{\"read-ios\": 5, \"read-sectors\": 6, \"write-ios\": 7, \
            \"write-sectors\": 8}";
        let discards = "11, \"discard-ios\": 12, \"discard-merges\": 13, \
            \"discard-sectors\": 14, \"discard-ticks\": 15";
        let zeros: String = all.chars().filter(|char| !char.is_ascii_digit()).collect();
        let zeros = zeros.replace(": ", ": 0");
        let expected = [
            (7, 0, "loop0", &zeros[..]),
            (254, 0, "vda", all),
            (254, 1, "vda1", &format!("{{{old}{discards}}}")),
            (8, 16, "sdb", &format!("{{{old}18446744073709551615}}")),
            (8, 17, "sdb1", partition),
            (8, 18, "sdb2", "{}"),
        ]
        .map(|(major, minor, name, stats)| {
            format!("{{\"name\": \"{name}\", \"major\": {major}, \"minor\": {minor}, \"stats\": {stats}}}")
        });
        assert_eq!(
            reply(&tree.root, DISKS, false),
            format!("{{\"return\": [{}]}}\n", expected.join(", "))
        );
    }

    #[test]
    fn every_processor_is_told_in_milliseconds() {
        let table = format!(
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu11 1 2 3 4 5 6 7\nintr {}\nctxt 5\n",
            "0 ".repeat(20_000)
        );
        let tree = Tree::of(&[("proc/stat", &table)]);
        let common = "\"user\": 10, \"nice\": 20, \"system\": 30, \
            \"idle\": 40, \"iowait\": 50, \"irq\": 60, \"softirq\": 70";
        let virtual_too = "\"steal\": 80, \"guest\": 90, \"guestnice\": 100";
        assert_eq!(
            reply(&tree.root, PROCESSORS, true),
            format!(
                "{{\"return\": [{{\"type\": \"linux\", \"cpu\": 0, {common}, {virtual_too}}}, {{\"type\": \"linux\", \"cpu\": 11, {common}}}]}}\n"
            )
        );
    }
}
