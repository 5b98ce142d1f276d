//! The latest answers to questions that are expensive to ask again: the serial numbers of virtio disks.

use core::cell::Cell;

/// Number of answers that are kept.
const ANSWERS: usize = 8;

/// An answer: as long as the serial number of a virtio disk, with zeros behind a shorter one.
pub type Answer = [u8; 20];

/// The latest answers, each with the number of what was asked about, which is never 0.
pub struct RecentAnswers {
    answers: [Cell<(u64, Answer)>; ANSWERS],
    /// The index of the oldest answer, which the next one replaces.
    oldest: Cell<usize>,
}

impl RecentAnswers {
    /// No answers.
    pub const fn new() -> Self {
        Self {
            answers: [const { Cell::new((0, [0; 20])) }; ANSWERS],
            oldest: Cell::new(0),
        }
    }

    /// The answer about this number, if it is kept.
    pub fn find(&self, number: u64) -> Option<Answer> {
        let mut answers = self.answers.iter().map(Cell::get);
        answers.find_map(|(about, answer)| (about == number && number != 0).then_some(answer))
    }

    /// Keeps an answer in place of the oldest one. One that is too long is not kept, and nothing is kept
    /// about 0.
    pub fn keep(&self, number: u64, text: &[u8]) {
        let mut answer = [0; 20];
        let index = self.oldest.get();
        if let Some(start) = answer.get_mut(..text.len())
            && let Some(cell) = self.answers.get(index)
            && number != 0
        {
            start.copy_from_slice(text);
            cell.set((number, answer));
            self.oldest.set((index + 1) % ANSWERS);
        }
    }
}

impl Default for RecentAnswers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_answers_are_kept() {
        let recent = RecentAnswers::new();
        for number in 1..=10u8 {
            assert_eq!(recent.find(number.into()), None);
            recent.keep(number.into(), &[number]);
        }
        for number in 1..=10u8 {
            let kept = recent
                .find(number.into())
                .map(|answer| answer[..2] == [number, 0]);
            assert_eq!(kept, (number > 2).then_some(true), "{number}");
        }
    }

    #[test]
    fn long_answers_and_answers_about_0_are_not_kept() {
        let recent = RecentAnswers::new();
        recent.keep(1, &[b'x'; 20]);
        recent.keep(2, &[b'x'; 21]);
        recent.keep(0, b"x");
        assert_eq!(recent.find(1), Some([b'x'; 20]));
        assert_eq!((recent.find(2), recent.find(0)), (None, None));
    }
}
