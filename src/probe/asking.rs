//! Asks the kernel questions that may never be answered, with a time limit for each.
//!
//! An example is reading memory of a process that maps a file of a server that is down: the reader
//! waits in the kernel, and SIGKILL may not end it. So a child asks. If an answer takes too long,
//! the child is left behind, and a new child goes on with the next question.

use crate::base::limits::{ANSWER_MS, UNANSWERED};
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Forked};
use crate::sys::stream::{self, Read};
use crate::sys::{AsFd, Errno};

/// Asks `question` about every number below `count`, and calls `answered` with number and answer,
/// in order. Skips questions without an answer in time, and stops after [`UNANSWERED`] of them.
///
/// Only for children of the agent: it waits, and leaves children behind.
pub(super) fn ask_each(
    count: usize,
    question: &dyn Fn(usize) -> bool,
    answered: &mut dyn FnMut(usize, bool),
) {
    let (mut next, mut unanswered) = (0, 0);
    while next < count && unanswered < UNANSWERED {
        match ask_from(next, count, question, answered) {
            Ok(reached) => {
                next = reached + 1;
                unanswered += 1;
            }
            // No memory for a child: ask without a time limit.
            Err(_) => {
                answered(next, question(next));
                next += 1;
            }
        }
    }
}

/// Has a child ask from `first` on. Returns the number of the question without an answer, or
/// `count`.
fn ask_from(
    first: usize,
    count: usize,
    question: &dyn Fn(usize) -> bool,
    answered: &mut dyn FnMut(usize, bool),
) -> Result<usize, Errno> {
    let (reader, writer) = stream::pipe()?;
    // The child gets a copy of the descriptor table: if it was left behind and goes on later, its
    // descriptors may mean other files in this process.
    let child = match process::fork(false)? {
        Forked::Parent(child) => child,
        Forked::Child(_) => {
            for number in first..count {
                if stream::write_all(&writer, &[question(number).into()]).is_err() {
                    break;
                }
            }
            process::exit(0)
        }
    };
    drop(writer);
    let mut next = first;
    let mut answers = [0; 64];
    while poll::is_ready(reader.as_fd(), Interest::Read, ANSWER_MS)
        && let Ok(Read::Bytes(len)) = stream::read(&reader, &mut answers)
    {
        for answer in answers.iter().take(len) {
            answered(next, *answer != 0);
            next += 1;
        }
    }
    let _ = process::kill(child, process::KILL);
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    fn ask(count: usize, question: &dyn Fn(usize) -> bool) -> Vec<(usize, bool)> {
        let mut answers = Vec::new();
        ask_each(count, question, &mut |number, answer| {
            answers.push((number, answer))
        });
        answers
    }

    #[test]
    fn answers_arrive_in_order() {
        let expected: Vec<_> = (0..1000).map(|number| (number, number % 3 == 0)).collect();
        assert_eq!(ask(1000, &|number| number % 3 == 0), expected);
        assert!(ask(0, &|_| true).is_empty());
    }

    #[test]
    fn skips_question_without_answer() {
        let start_ms = clock::boottime_ms();
        let question = |number| {
            if number == 1 {
                clock::sleep_ms(60_000);
            }
            number == 2
        };
        assert_eq!(ask(4, &question), [(0, false), (2, true), (3, false)]);
        let took_ms = clock::boottime_ms() - start_ms;
        assert!((ANSWER_MS..30_000).contains(&took_ms), "{took_ms}");
    }

    #[test]
    fn stops_asking_after_too_many_unanswered_questions() {
        let question = |number| {
            if number > 0 {
                clock::sleep_ms(60_000);
            }
            true
        };
        assert_eq!(ask(1000, &question), [(0, true)]);
    }
}
