//! Sorted indices: the offsets of records in a text, four bytes each, sorted in place.
//!
//! The caller provides the memory, of any alignment. Sorting takes n log n comparisons in the worst
//! case and no further memory.

use core::cmp::Ordering;

use super::sink::{ByteSink, Full};

/// Appends the offset of a record to an index; [`Full`] also for an offset of 4 GiB or more.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn push(index: &mut dyn ByteSink, offset: usize) -> Result<(), Full> {
    let offset = u32::try_from(offset).map_err(|_| Full)?;
    index.append(&offset.to_ne_bytes())
}

/// Appends an index of the records in `sink` to it. Returns where the index begins.
///
/// `take` removes the first record from a text, and returns whether the index contains it. If the
/// index does not fit, the sink is full: the next [`ByteSink::append`] fails.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn append(sink: &mut dyn ByteSink, take: &mut dyn FnMut(&mut &[u8]) -> bool) -> usize {
    let end = sink.bytes().len();
    let mut offset = 0;
    while offset < end {
        let mut rest = sink.bytes().get(offset..end).unwrap_or_default();
        let is_indexed = take(&mut rest);
        let next = end - rest.len();
        if is_indexed {
            let _ = push(sink, offset);
        }
        offset = next;
    }
    end
}

/// Returns the size of an index of so many records.
pub const fn bytes_for(records: usize) -> usize {
    records * size_of::<u32>()
}

/// Sorts an index. `order` compares the records at two offsets. Equal records may come in any
/// order.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn sort(index: &mut [u8], order: &mut dyn FnMut(usize, usize) -> Ordering) {
    let (offsets, _) = index.as_chunks_mut();
    offsets.sort_unstable_by(|one, other| order(number(*one), number(*other)));
}

/// Iterates over the offsets of an index.
pub fn offsets(index: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
    let (offsets, _) = index.as_chunks();
    offsets.iter().map(|offset| number(*offset))
}

/// Returns the part of a sorted index whose records are equal to a key. `order` compares the record
/// at an offset with the key.
// Out of line: one copy of the code is smaller.
#[inline(never)]
pub fn equal_range<'i>(index: &'i [u8], order: &mut dyn FnMut(usize) -> Ordering) -> &'i [u8] {
    let (offsets, _) = index.as_chunks();
    let start = offsets.partition_point(|offset| order(number(*offset)).is_lt());
    let rest = offsets.get(start..).unwrap_or_default();
    let len = rest.partition_point(|offset| order(number(*offset)).is_eq());
    rest.get(..len).unwrap_or_default().as_flattened()
}

fn number(offset: [u8; 4]) -> usize {
    u32::from_ne_bytes(offset) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::text;

    #[test]
    fn sorts_records_and_finds_equal_ones() {
        let text = b"cherry apple banana apple ";
        let mut index = heapless::Vec::<u8, 64>::new();
        for (offset, byte) in text.iter().enumerate() {
            if offset == 0 || text[offset - 1] == b' ' && byte.is_ascii_alphabetic() {
                push(&mut index, offset).unwrap();
            }
        }
        let word = |offset: usize| text[offset..].split(|byte| *byte == b' ').next();
        sort(&mut index, &mut |a, b| {
            word(a).cmp(&word(b)).then(b.cmp(&a))
        });
        assert_eq!(offsets(&index).collect::<Vec<_>>(), [20, 7, 13, 0]);
        assert_eq!(offsets(&index).next_back(), Some(0));
        let found = equal_range(&index, &mut |offset| word(offset).cmp(&word(7)));
        assert_eq!(offsets(found).collect::<Vec<_>>(), [20, 7]);
        assert!(equal_range(&index, &mut |offset| word(offset).cmp(&Some(b"b"))).is_empty());
    }

    #[test]
    fn appends_an_index_after_its_records() {
        let mut sink = heapless::Vec::<u8, 64>::new();
        sink.extend_from_slice(b"one|-two|three").unwrap();
        let start = append(&mut sink, &mut |rest| {
            !text::cut(rest, b'|').starts_with(b"-")
        });
        let (records, index) = sink.split_at(start);
        assert_eq!(records, b"one|-two|three");
        assert_eq!(offsets(index).collect::<Vec<_>>(), [0, 9]);
    }

    #[test]
    fn rejects_offsets_past_4_gib_and_beyond_the_store() {
        let mut index = heapless::Vec::<u8, 8>::new();
        assert_eq!(push(&mut index, 1), Ok(()));
        assert_eq!(push(&mut index, 1 << 32), Err(Full));
        assert_eq!(push(&mut index, usize::from(u16::MAX)), Ok(()));
        assert_eq!(push(&mut index, 3), Err(Full));
        assert_eq!(offsets(&index).collect::<Vec<_>>(), [1, 65_535]);
    }
}
