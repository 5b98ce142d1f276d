//! Questions to the kernel that may never be answered.
//!
//! A process that reads what only a dead server could supply waits in the kernel, and may not even be
//! killed. So children ask: one that gets no answer in time is left behind, and another one goes on
//! with the next question.

use rustix::fd::AsFd;
use rustix::io::Errno;

use super::poll::{self, Interest};
use super::process::{self, IN_CHILD};
use super::stream::{self, Read};
use crate::base::limits::{ANSWER_MS, UNANSWERED};

/// Asks `question` of every number below `count` and calls `answered` with the answers, in order.
/// Questions without an answer are passed over; after [`UNANSWERED`] of them no more are asked.
///
/// For children of the agent: it waits, and leaves children behind.
pub fn ask_each(
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
            // Without memory for a child it may take its time.
            Err(_) => {
                answered(next, question(next));
                next += 1;
            }
        }
    }
}

/// Has a child ask from `first` on; gives the number of the question that was not answered, or `count`.
fn ask_from(
    first: usize,
    count: usize,
    question: &dyn Fn(usize) -> bool,
    answered: &mut dyn FnMut(usize, bool),
) -> Result<usize, Errno> {
    let (reader, writer) = stream::pipe()?;
    // It has descriptors of its own: the ones that it is left behind with mean something else here by
    // then.
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
    fn answers_come_in_order() {
        let expected: Vec<_> = (0..1000).map(|number| (number, number % 3 == 0)).collect();
        assert_eq!(ask(1000, &|number| number % 3 == 0), expected);
        assert!(ask(0, &|_| true).is_empty());
    }

    #[test]
    fn a_question_without_an_answer_is_passed_over() {
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
    fn there_is_an_end_to_questions_without_an_answer() {
        let question = |number| {
            if number > 0 {
                clock::sleep_ms(60_000);
            }
            true
        };
        assert_eq!(ask(1000, &question), [(0, true)]);
    }
}
