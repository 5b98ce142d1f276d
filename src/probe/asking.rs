//! Asks the kernel questions that may never be answered, with a time limit for each.
//!
//! An example is reading memory of a process that maps a file of a server that is down: the reader
//! waits in the kernel, and SIGKILL may not end it. So a child asks each question, however many there
//! are. If the answer takes too long, the child is left behind, with what it has open. A child that is
//! killed counts as "no".

use crate::base::limits::{ANSWER_MS, UNANSWERED};
use crate::sys::process::Helper;

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
        let ask = &mut || question(next).into();
        let answer = match Helper::start(ask) {
            Ok(child) => {
                let answer = child.wait(ANSWER_MS);
                if answer.is_none() {
                    child.kill();
                }
                answer
            }
            // No memory for a child: ask without a time limit.
            Err(_) => Some(ask()),
        };
        match answer {
            Some(answer) => answered(next, answer == 1),
            None => unanswered += 1,
        }
        next += 1;
    }
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
        let expected: Vec<_> = (0..50).map(|number| (number, number % 3 == 0)).collect();
        assert_eq!(ask(50, &|number| number % 3 == 0), expected);
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
