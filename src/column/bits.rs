//! Bits, eight to a byte.

use std::ops::Range;

use crate::error::Result;
use crate::memory::try_grow;

const WHAT: &str = "the validity of a column";
const BITS: usize = u8::BITS as usize;

/// A vector of bits. The first one is the lowest of its byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    /// As many as the bits need; those beyond the last are 0.
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// So many bits of `bytes`; `None` where they are not as many as the bits need, or there is
    /// anything behind the last.
    pub fn of_parts(bytes: Vec<u8>, len: usize) -> Option<Self> {
        let last = bytes.last().copied().unwrap_or(0);
        let is_clean = len.is_multiple_of(BITS) || last >> (len % BITS) == 0;
        (bytes.len() == len.div_ceil(BITS) && is_clean).then_some(Self { bytes, len })
    }

    /// All bits; what is behind the last is 0.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of bits.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bit at `at`; not set where there is none.
    #[inline]
    pub fn get(&self, at: usize) -> bool {
        let byte = self.bytes.get(at / BITS).copied().unwrap_or(0);
        byte >> (at % BITS) & 1 == 1
    }

    /// Makes the bit at `at` that, where there is one.
    #[inline]
    pub fn set(&mut self, at: usize, bit: bool) {
        if at >= self.len {
            return;
        }
        if let Some(byte) = self.bytes.get_mut(at / BITS) {
            *byte = *byte & !(1 << (at % BITS)) | u8::from(bit) << (at % BITS);
        }
    }

    /// Makes room for so many more, so that pushing them cannot fail.
    pub fn try_reserve(&mut self, more: usize) -> Result<()> {
        let wanted = self.len.saturating_add(more).div_ceil(BITS);
        let missing = wanted.saturating_sub(self.bytes.len());
        try_grow(&mut self.bytes, missing, WHAT)
    }

    /// Appends a bit.
    #[inline]
    pub fn push(&mut self, bit: bool) -> Result<()> {
        self.fill(bit, 1)
    }

    /// Appends the same bit so many times.
    #[inline]
    pub fn fill(&mut self, bit: bool, times: usize) -> Result<()> {
        self.try_reserve(times)?;
        let end = self.len + times;
        self.bytes.resize(end.div_ceil(BITS), 0);
        let from = std::mem::replace(&mut self.len, end);
        if bit {
            (from..end).for_each(|at| self.set(at, true));
        }
        Ok(())
    }

    /// Appends those bits of `from`.
    pub fn append(&mut self, from: &Self, range: Range<usize>) -> Result<()> {
        let range = range.start..range.end.min(from.len);
        self.try_reserve(range.len())?;
        // As where columns are handed over: whole bytes.
        if self.len.is_multiple_of(BITS) && range.start.is_multiple_of(BITS) {
            let bytes = range.start / BITS..range.end.div_ceil(BITS);
            let bytes = from.bytes.get(bytes).unwrap_or_default();
            self.bytes.extend_from_slice(bytes);
            let end = self.len + range.len();
            self.len = self.bytes.len() * BITS;
            self.truncate(end);
            return Ok(());
        }
        for at in range {
            self.push(from.get(at))?;
        }
        Ok(())
    }

    /// The bits at `places`, in their order.
    pub fn gather(&self, places: &[u32]) -> Result<Self> {
        let mut gathered = Self::default();
        gathered.try_reserve(places.len())?;
        for &at in places {
            gathered.push(self.get(at as usize))?;
        }
        Ok(gathered)
    }

    /// Forgets the bits from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        self.bytes.truncate(len.div_ceil(BITS));
        if let Some(last) = self.bytes.last_mut()
            && !len.is_multiple_of(BITS)
        {
            *last &= (1 << (len % BITS)) - 1;
        }
    }

    /// Bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(of: &[bool]) -> Bits {
        let mut bits = Bits::default();
        for &bit in of {
            bits.push(bit).unwrap();
        }
        bits
    }

    fn all(bits: &Bits) -> Vec<bool> {
        (0..bits.len()).map(|at| bits.get(at)).collect()
    }

    proptest! {
        #[test]
        fn they_are_as_a_vector_of_bools(
            mut expected in proptest::collection::vec(any::<bool>(), 0..70),
            other in proptest::collection::vec(any::<bool>(), 0..70),
            (start, len, cut, times) in (0..70_usize, 0..70_usize, 0..140_usize, 0..20_usize),
            bit: bool,
        ) {
            let mut found = bits(&expected);
            let range = start.min(other.len())..(start + len).min(other.len()).max(start.min(other.len()));
            found.append(&bits(&other), range.clone()).unwrap();
            expected.extend_from_slice(other.get(range).unwrap());
            found.fill(bit, times).unwrap();
            expected.extend(std::iter::repeat_n(bit, times));
            found.truncate(cut);
            expected.truncate(cut);
            found.set(start, bit);
            expected.get_mut(start).into_iter().for_each(|place| *place = bit);
            prop_assert_eq!(all(&found), expected.clone());
            prop_assert_eq!(&found, &bits(&expected));
            let back = Bits::of_parts(found.bytes().to_vec(), found.len());
            prop_assert_eq!(back, Some(found));
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        assert!(Bits::of_parts(vec![0b11], 2).is_some());
        assert!(Bits::of_parts(vec![0b111], 2).is_none());
        assert!(Bits::of_parts(vec![0, 0], 8).is_none());
        assert!(Bits::of_parts(vec![], 1).is_none());
        assert!(!bits(&[true]).get(70));
        let gathered = bits(&[true, false, true]).gather(&[2, 1, 1]).unwrap();
        assert_eq!(all(&gathered), [true, false, false]);
    }
}
