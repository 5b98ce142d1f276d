//! Questions to the kernel that may wait for a server that does not answer.
//!
//! A process that reads memory of such a server's files waits in the kernel, and SIGKILL may not end
//! it. So a child asks. If an answer takes too long, the child is left behind, and a new child goes on
//! with the next question.

use crate::base::limits::{ANSWER_MS, UNANSWERED};
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, IN_CHILD};
use crate::sys::stream::{self, Read};
use crate::sys::{AsFd, Errno};

/// Asks `question` of every number below `count` and calls `answered` with number and answer, in order.
/// Skips questions without an answer in time; after [`UNANSWERED`] of them asks no more.
///
/// For children of the agent only: it waits, and leaves children behind.
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
            // There is no memory for a child: ask without a limit of time.
            Err(_) => {
                answered(next, question(next));
                next += 1;
            }
        }
    }
}

/// Has a child ask from `first` on. Returns the number of the question without an answer, or `count`.
fn ask_from(
    first: usize,
    count: usize,
    question: &dyn Fn(usize) -> bool,
    answered: &mut dyn FnMut(usize, bool),
) -> Result<usize, Errno> {
    let (reader, writer) = stream::pipe()?;
    // With descriptors of its own: when a child that was left behind goes on, the numbers that it knows
    // may belong to other files of this process.
    let child = process::fork(false)?;
    if child == IN_CHILD {
        for number in first..count {
            if stream::write_all(&writer, &[question(number).into()]).is_err() {
                break;
            }
        }
        process::exit(0)
    }
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
