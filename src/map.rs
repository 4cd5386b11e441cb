//! [`AppendOnlyMap`]: from a key to its row.
//!
//! The map knows nothing of combiners: the row it gives is the row of the combiner in the column
//! that an [`Aggregate`](crate::aggregate::Aggregate) keeps. Keys are never removed one by one, so
//! rows are numbers from 0 in insertion order and the map needs neither tombstones nor links.

use hashbrown::HashTable;

use crate::column::KeyColumn;
use crate::error::{Error, Result};
use crate::memory::try_grow;

/// Rows are numbered in 32 bits, which halves the index; a table this large is over the memory
/// of any worker long before.
pub const MAX_ROWS: usize = u32::MAX as usize;

/// One entry of the index: the row, and as much of its hash as fits beside it, so that a probe
/// that hits another key's bucket is told apart without a look at the key.
#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    row: u32,
}

/// Hash table from key to row, in insertion order.
pub struct AppendOnlyMap<K> {
    index: HashTable<Slot>,
    hashes: Vec<u64>,
    keys: K,
}

impl<K: KeyColumn> AppendOnlyMap<K> {
    /// An empty map that numbers the keys it puts into `keys`, which must be empty.
    pub fn new(keys: K) -> Self {
        Self {
            index: HashTable::new(),
            hashes: Vec::new(),
            keys,
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is no key yet.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The hash of each key, by row.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The keys, by row.
    pub fn keys(&self) -> &K {
        &self.keys
    }

    /// The keys, to be taken out row by row when the map has served.
    pub fn keys_mut(&mut self) -> &mut K {
        &mut self.keys
    }

    /// The row of `key`, or `None`. Fails where comparing two keys fails.
    #[inline]
    pub fn find(&self, hash: u64, key: K::Probe<'_>) -> Result<Option<usize>> {
        let tag = tag_of(hash);
        let mut failure = None;
        let found = self.index.find(hash, |slot| {
            slot.tag == tag
                && match self.keys.is_same(slot.row as usize, key) {
                    Ok(is_same) => is_same,
                    Err(error) => {
                        // The table's closure cannot fail: claim a match to end the probe.
                        failure = Some(error);
                        true
                    }
                }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(found.map(|slot| slot.row as usize)),
        }
    }

    /// Makes room for one more key, so that the next [`push`](Self::push) cannot fail.
    #[inline]
    pub fn make_room(&mut self) -> Result<()> {
        if self.hashes.len() < self.hashes.capacity() && self.index.len() < self.index.capacity() {
            return self.keys.make_room();
        }
        self.grow()
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        const WHAT: &str = "the table of keys";
        if self.hashes.len() >= MAX_ROWS {
            return Err(Error::OutOfMemory {
                wanted: MAX_ROWS,
                what: WHAT,
            });
        }
        let hashes = &self.hashes;
        self.index
            .try_reserve(1, |slot| {
                hashes.get(slot.row as usize).copied().unwrap_or_default()
            })
            .map_err(|_| Error::OutOfMemory {
                wanted: self.index.capacity().saturating_mul(2 * size_of::<Slot>()),
                what: WHAT,
            })?;
        try_grow(&mut self.hashes, 1, WHAT)?;
        self.keys.make_room()
    }

    /// Makes room for `rows` keys in all, where there is as much memory.
    pub fn reserve(&mut self, rows: usize) {
        let hashes = &self.hashes;
        let more = rows.saturating_sub(hashes.len());
        let hash_of = |slot: &Slot| hashes.get(slot.row as usize).copied().unwrap_or_default();
        // What is not had now is asked for again when it is needed, with an error then.
        let _ = self.index.try_reserve(more, hash_of);
        let _ = self.hashes.try_reserve(more);
        self.keys.reserve(more);
    }

    /// Adds a key that [`find`](Self::find) did not find, after [`make_room`](Self::make_room).
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // `grow` refuses more rows than 32 bits number
    pub fn push(&mut self, hash: u64, key: K::Item) {
        let row = self.hashes.len();
        let Self {
            index,
            hashes,
            keys,
        } = self;
        hashes.push(hash);
        keys.push(key);
        index.insert_unique(
            hash,
            Slot {
                tag: tag_of(hash),
                row: row as u32,
            },
            |slot| hashes.get(slot.row as usize).copied().unwrap_or_default(),
        );
    }

    /// Bytes allocated by the map and its key column.
    pub fn heap_bytes(&self) -> usize {
        self.index.allocation_size()
            + self.hashes.capacity() * size_of::<u64>()
            + self.keys.heap_bytes()
    }

    /// Forgets all keys and keeps the memory for as many again.
    pub fn reset(&mut self) {
        self.index.clear();
        self.hashes.clear();
        self.keys.reset();
    }

    /// Forgets all keys and gives the memory back: capacity too, not only length.
    pub fn clear(&mut self) {
        self.index = HashTable::new();
        self.hashes = Vec::new();
        self.keys.clear();
    }
}

/// The upper half of the hash: the index spends the lower bits on the bucket.
#[inline]
#[allow(clippy::cast_possible_truncation)] // half of the bits is what is wanted
const fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::column::Column;

    /// Keys that count how often they are compared, and refuse to be compared with `poison`.
    #[derive(Default)]
    struct Words {
        rows: Vec<String>,
        poison: Option<String>,
    }

    impl Column for Words {
        type Item = String;
        fn len(&self) -> usize {
            self.rows.len()
        }
        fn make_room(&mut self) -> Result<()> {
            Ok(())
        }
        fn reserve(&mut self, more: usize) {
            self.rows.reserve(more);
        }
        fn push(&mut self, item: String) {
            self.rows.push(item);
        }
        fn heap_bytes(&self) -> usize {
            self.rows.capacity() * size_of::<String>()
        }
        fn reset(&mut self) {
            self.rows.clear();
        }
        fn clear(&mut self) {
            self.rows = Vec::new();
        }
    }

    impl KeyColumn for Words {
        type Probe<'a> = &'a str;
        fn is_same(&self, row: usize, probe: &str) -> Result<bool> {
            if self.poison.as_deref() == Some(probe) {
                return Err(Error::Usage("poison".into()));
            }
            Ok(self.rows.get(row).is_some_and(|word| word == probe))
        }
    }

    fn add(map: &mut AppendOnlyMap<Words>, hash: u64, word: &str) -> usize {
        if let Some(row) = map.find(hash, word).unwrap() {
            return row;
        }
        map.make_room().unwrap();
        map.push(hash, word.to_owned());
        map.len() - 1
    }

    fn hash_of(word: &str) -> u64 {
        word.bytes().fold(7, |hash, byte| {
            (hash ^ u64::from(byte))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        })
    }

    #[test]
    fn rows_are_numbered_in_insertion_order() {
        let mut map = AppendOnlyMap::new(Words::default());
        let words: Vec<String> = (0..5000)
            .map(|i| format!("word-{}", i * 7919 % 5000))
            .collect();
        for (row, word) in words.iter().enumerate() {
            assert_eq!(add(&mut map, hash_of(word), word), row);
        }
        for (row, word) in words.iter().enumerate() {
            assert_eq!(map.find(hash_of(word), word).unwrap(), Some(row));
        }
        assert_eq!(map.keys().rows, words);
        assert_eq!(map.find(hash_of("absent"), "absent").unwrap(), None);
    }

    #[test]
    fn keys_of_one_hash_stay_apart() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..300 {
            assert_eq!(add(&mut map, 42, &i.to_string()), i);
        }
        for i in 0..300 {
            assert_eq!(map.find(42, &i.to_string()).unwrap(), Some(i));
        }
    }

    #[test]
    fn a_comparison_that_fails_is_an_error_and_leaves_the_map_whole() {
        let mut map = AppendOnlyMap::new(Words::default());
        add(&mut map, 1, "a");
        map.keys_mut().poison = Some("b".into());
        assert!(map.find(1, "b").is_err());
        assert_eq!(map.len(), 1);
        assert_eq!(map.find(1, "a").unwrap(), Some(0));
        // Another hash is never compared, so it cannot fail.
        assert_eq!(map.find(1 << 40, "b").unwrap(), None);
    }

    #[test]
    fn reset_keeps_the_memory_and_no_key() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..1000 {
            add(&mut map, hash_of(&i.to_string()), &i.to_string());
        }
        let before = map.heap_bytes();
        map.reset();
        assert_eq!(map.heap_bytes(), before);
        assert_eq!(map.find(hash_of("7"), "7").unwrap(), None);
        assert_eq!(add(&mut map, 3, "again"), 0);
    }

    #[test]
    fn clear_gives_the_memory_back() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..1000 {
            add(&mut map, hash_of(&i.to_string()), &i.to_string());
        }
        assert!(map.heap_bytes() > 1000 * 16);
        map.clear();
        assert_eq!(map.heap_bytes(), 0);
        assert!(map.is_empty());
        assert_eq!(add(&mut map, 3, "again"), 0);
    }
}
