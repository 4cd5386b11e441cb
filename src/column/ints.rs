//! Integers as bytes: each as what it is above the least of them, in as few bytes as the greatest of
//! these takes. Least byte first: the least in eight, how many each takes in one, and then they.

use crate::error::Result;
use crate::memory::try_grow;

const WHAT: &str = "the records of a block";

/// Bytes before the first.
const AHEAD: usize = size_of::<i64>() + 1;

/// Does the same for each width, as fast as for a width that is known.
macro_rules! by_width {
    ($width:expr, $function:ident, $($argument:expr),*) => {
        match $width {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            5 => $function::<5>($($argument),*),
            6 => $function::<6>($($argument),*),
            7 => $function::<7>($($argument),*),
            _ => $function::<8>($($argument),*),
        }
    };
}

/// Appends `ints` to `bytes`.
pub fn encode(ints: &[i64], bytes: &mut Vec<u8>) -> Result<()> {
    let least = ints.iter().copied().min().unwrap_or(0);
    let greatest = ints.iter().copied().max().unwrap_or(0);
    let range = greatest.wrapping_sub(least).cast_unsigned();
    let width = (u64::BITS - range.leading_zeros())
        .div_ceil(u8::BITS)
        .max(1);
    let len = ints.len().saturating_mul(width as usize);
    try_grow(bytes, len.saturating_add(AHEAD), WHAT)?;
    bytes.extend_from_slice(&least.to_le_bytes());
    bytes.extend(u8::try_from(width));
    by_width!(width, push, ints, least, bytes);
    Ok(())
}

fn push<const WIDTH: usize>(ints: &[i64], least: i64, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.resize(start + ints.len() * WIDTH, 0);
    let (places, _) = bytes.get_mut(start..).unwrap_or_default().as_chunks_mut();
    for (place, int) in places.iter_mut().zip(ints) {
        let above: [u8; 8] = int.wrapping_sub(least).to_le_bytes();
        if let Some(low) = above.first_chunk::<WIDTH>() {
            *place = *low;
        }
    }
}

/// The same of lengths.
pub fn encode_lengths(lengths: impl ExactSizeIterator<Item = usize>) -> Result<Vec<u8>> {
    let (mut ints, mut bytes) = (Vec::new(), Vec::new());
    try_grow(&mut ints, lengths.len(), WHAT)?;
    ints.extend(lengths.map(|length| i64::try_from(length).unwrap_or(i64::MAX)));
    encode(&ints, &mut bytes)?;
    Ok(bytes)
}

/// The integers in `bytes`; `None` where these are damaged.
pub fn decode(bytes: &[u8]) -> Result<Option<Vec<i64>>> {
    let Some((least, width, bytes)) = read(bytes) else {
        return Ok(None);
    };
    if bytes.len() % width != 0 {
        return Ok(None);
    }
    let mut ints = Vec::new();
    try_grow(&mut ints, bytes.len() / width, WHAT)?;
    by_width!(width, pull, bytes, least, &mut ints);
    Ok(Some(ints))
}

fn pull<const WIDTH: usize>(bytes: &[u8], least: i64, ints: &mut Vec<i64>) {
    let (places, _) = bytes.as_chunks::<WIDTH>();
    ints.extend(places.iter().map(|place| {
        let mut above = [0; 8];
        if let Some(low) = above.first_chunk_mut() {
            *low = *place;
        }
        i64::from_le_bytes(above).wrapping_add(least)
    }));
}

/// How many integers are in `bytes`.
pub fn count(bytes: &[u8]) -> usize {
    read(bytes).map_or(0, |(_, width, bytes)| bytes.len() / width)
}

/// What is ahead of integers, and their bytes.
fn read(bytes: &[u8]) -> Option<(i64, usize, &[u8])> {
    let (least, bytes) = bytes.split_first_chunk()?;
    let (width @ 1..=8, bytes) = bytes.split_first()? else {
        return None;
    };
    Some((i64::from_le_bytes(*least), usize::from(*width), bytes))
}

/// Where rows of the lengths in `bytes` end, one after the other, the last at `total`; `None` where
/// these are damaged.
pub fn decode_ends(bytes: &[u8], total: usize) -> Result<Option<Vec<usize>>> {
    let Some(lengths) = decode(bytes)? else {
        return Ok(None);
    };
    let mut ends = Vec::new();
    try_grow(&mut ends, lengths.len(), WHAT)?;
    let mut end = 0_usize;
    for length in lengths {
        let length = usize::try_from(length).ok();
        let Some(next) = length.and_then(|length| end.checked_add(length)) else {
            return Ok(None);
        };
        end = next;
        ends.push(end);
    }
    Ok((end == total).then_some(ends))
}

/// The bytes of so many integers, and what is behind them; `None` where there are not as many.
pub fn split(bytes: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    let (_, width, _) = read(bytes)?;
    let len = count.checked_mul(width)?.checked_add(AHEAD)?;
    bytes.split_at_checked(len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(ints: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(ints, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn each_takes_as_many_bytes_as_the_range_does() {
        for (ints, width) in [
            (vec![], 1),
            (vec![i64::MAX; 3], 1),
            (vec![-1, 254], 1),
            (vec![-1, 255], 2),
            (vec![1 << 40, (1 << 40) + 0xff_ffff], 3),
            (vec![0, 1 << 31], 4),
            (vec![0, 1 << 32], 5),
            (vec![0, 1 << 47], 6),
            (vec![0, (1 << 56) - 1], 7),
            (vec![i64::MIN, i64::MAX], 8),
        ] {
            let bytes = encoded(&ints);
            assert_eq!(bytes.len(), AHEAD + ints.len() * width, "{ints:?}");
            assert_eq!(count(&bytes), ints.len());
            assert_eq!(decode(&bytes).unwrap().unwrap(), ints);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(ints: Vec<i64>, shift in 0_u32..64, behind: Vec<u8>) {
            let ints: Vec<i64> = ints.into_iter().map(|int| int >> shift).collect();
            let bytes = encoded(&ints);
            prop_assert_eq!(decode(&bytes).unwrap(), Some(ints.clone()));
            let more = [bytes.clone(), behind.clone()].concat();
            prop_assert_eq!(split(&more, ints.len()), Some((&bytes[..], &behind[..])));
        }

        #[test]
        fn any_bytes_are_integers_or_damaged(bytes: Vec<u8>) {
            let ints = decode(&bytes).unwrap();
            let total = ints.iter().flatten().fold(0_i64, |sum, int| sum.wrapping_add(*int));
            let total = usize::try_from(total).unwrap_or(0);
            let ends = decode_ends(&bytes, total).unwrap();
            prop_assert!(ends.is_none_or(|ends| ends.is_sorted() && ints.is_some()));
        }
    }

    #[test]
    fn lengths_are_told_by_their_ends() {
        let bytes = encode_lengths([3, 0, 70_000].into_iter()).unwrap();
        let ends = decode_ends(&bytes, 70_003).unwrap();
        assert_eq!(ends.unwrap(), [3, 3, 70_003]);
        assert!(decode_ends(&bytes, 70_002).unwrap().is_none());
        let cut = bytes.get(..10).unwrap();
        for (damaged, total) in [
            (encoded(&[-1]), usize::MAX),
            (encoded(&[i64::MAX; 3]), (usize::MAX >> 1) - 2),
            (cut.to_vec(), 3),
        ] {
            assert!(decode_ends(&damaged, total).unwrap().is_none());
        }
        assert!(split(&bytes, 4).is_none() && split(&bytes, usize::MAX).is_none());
    }
}
